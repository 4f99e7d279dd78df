"""What lies on disk: the run folder and the files in it, read and written whole."""
