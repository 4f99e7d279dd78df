"""Figures of explanations, drawn without pyplot; the caller saves them."""
