"""SavedModel: the folder that TF Serving reads, and its signatures."""
