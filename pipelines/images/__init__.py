"""One stored image: what it is called, whether it is whole, and the float array that it becomes."""
