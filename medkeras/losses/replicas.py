"""How losses are shared between devices that train together."""

from typing import Any

import keras
from keras import ops


def replica_share() -> Any:
    """Returns one over the number of replicas of a distributed TensorFlow training, 1 elsewhere.

    Gradients of all replicas are added up, so each counts its loss by this share. Keras does so within its losses
    alone; a term that is computed in any other way has to do it itself.

    Example:
        >>> float(replica_share())
        1.0
    """
    # Keras has no public function for it, but what it makes of a loss of 1 is just this.
    return keras.losses.MeanAbsoluteError()(ops.zeros((1, 1)), ops.ones((1, 1)))
