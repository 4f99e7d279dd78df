"""What Keras has no function of its own for: gradients, recomputed activations, seeds of replicas."""
