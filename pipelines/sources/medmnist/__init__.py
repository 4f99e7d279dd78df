"""The MedMNIST source: the official npz layout."""
