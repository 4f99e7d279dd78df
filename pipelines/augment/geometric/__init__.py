"""Augmentations that move pixels, with the boxes and masks that go along."""
