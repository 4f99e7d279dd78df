"""What a run says, in one dictionary: read from its folder, with what is missing or cannot be read."""
