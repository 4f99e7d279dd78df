"""Random numbers that differ between devices that train together.

Keras has no public function that tells the replicas of a TensorFlow training apart, so this is the one place that asks
the backend itself.
"""

from typing import Any

import keras

SPREAD = 1_640_531_527  # 2^32 over the square of the golden ratio: the seeds of neighbours lie far apart.


class ReplicaSeeds(keras.random.SeedGenerator):
    """Seeds that go on as those of any generator, and differ between the replicas of a TensorFlow training.

    The first replica draws what one device alone draws. On JAX nothing changes: its random numbers belong to rows of
    the whole batch, however many devices share it.

    Args:
        seed: Integer seed; None for a random one.

    Example:
        >>> keras.ops.convert_to_numpy(ReplicaSeeds(7).next()).tolist()
        [7, 0]
    """

    def next(self, ordered: bool = True) -> Any:
        """Returns the next seed, `(2,)`."""
        seed, replica = super().next(ordered), _replica()
        if isinstance(replica, int) and replica == 0:
            return seed
        return seed + keras.ops.cast(keras.ops.stack([replica * SPREAD, 0]), seed.dtype)


def draw_apart(model: keras.Model) -> keras.Model:
    """Makes all random layers of a model draw other numbers on each replica, and returns the model.

    Else Keras drops the same units of all replicas: those of a batch that is shared by eight are dropped alike.

    Args:
        model: A built model; its random state stays as it is.

    Example:
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
        >>> type(draw_apart(net).layers[0].seed_generator).__name__
        'ReplicaSeeds'
    """
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            if type(generator) is keras.random.SeedGenerator:
                generator.__class__ = ReplicaSeeds
    return model


def _replica() -> Any:
    """Returns the index of the replica that computes now; 0 outside of a distributed training."""
    if keras.backend.backend() != "tensorflow":
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group
