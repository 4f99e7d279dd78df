"""The environment of a process that runs on JAX."""

# Compiled without optimisation: half the time, and values that are worked out twice differ in their roundings, as they
# may on other machines.
JAX = {
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}


def on_devices(count):
    """The environment of a process that runs on so many devices of JAX, which share the processor."""
    return JAX | {"XLA_FLAGS": f"{JAX['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}
