"""The parts of an enhancement, and of the training of an upscaler."""
