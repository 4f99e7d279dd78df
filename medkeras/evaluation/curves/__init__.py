"""Curves of a score: ROC, precision-recall and decision curves, and their points."""
