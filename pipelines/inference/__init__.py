"""A trained or exported model in use: its answers, and how sure it is of them."""
