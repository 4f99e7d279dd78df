"""The numbers and figures of an evaluation."""
