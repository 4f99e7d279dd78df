"""Attention: over channels, places and tokens, and crops and drops that follow it."""
