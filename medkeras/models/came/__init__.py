"""CAME: three branches, fused stage by stage; the baseline of HEMF."""
