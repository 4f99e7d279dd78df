"""A training: its configuration, its compiled model, and the state that is saved."""
