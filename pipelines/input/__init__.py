"""tf.data input: the order of an epoch, decoded images, shards of them, and batches."""
