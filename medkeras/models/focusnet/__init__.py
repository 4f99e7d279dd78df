"""FocusNet in 2D and 3D."""
