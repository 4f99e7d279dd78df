"""Splits: by patient, as folds, without copies across them, and the balance of classes in them."""
