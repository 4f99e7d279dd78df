"""Augmentations that change values and leave every pixel in its place."""
