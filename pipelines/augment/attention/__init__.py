"""Attention-guided augmentation (AADA): crops and drops that follow the model's attention maps."""
