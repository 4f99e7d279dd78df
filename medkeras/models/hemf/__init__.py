"""HEMF: a local and a global branch, fused stage by stage."""
