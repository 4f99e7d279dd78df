"""The tfds source: sets of TensorFlow Datasets."""
