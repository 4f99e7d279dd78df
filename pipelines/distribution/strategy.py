"""Where a training computes: one device, all devices of this host, or those of several hosts."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.distribution.cluster import Cluster, find_cluster
from pipelines.distribution.rendezvous import meet, waiting_seconds
from pipelines.runtime.ports import check_free

STRATEGIES = ("auto", "none", "mirrored", "multi-worker")
Batches = Callable[[int, int], tf.data.Dataset]


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The devices that share every step of a training.

    Attributes:
        strategy: TensorFlow's strategy.
        worker: Which process this is, from 0; the first one is the chief, which alone writes files.
        workers: How many processes there are.

    Example:
        >>> Distribution(tf.distribute.get_strategy()).replicas
        1
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Devices of all processes; each has a copy of the model and takes an equal part of each batch."""
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.worker == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is anything to share."""
        return self.replicas > 1 or self.workers > 1

    def check_batch(self, batch_size: int) -> None:
        """Checks that a batch can be shared evenly.

        Raises:
            ValueError: If it cannot.

        Example:
            >>> Distribution(tf.distribute.get_strategy()).check_batch(7)
        """
        if batch_size % self.replicas:
            raise InputError(
                f"`batch_size` is that of all replicas together and must be a multiple of their number, "
                f"{self.replicas}. Received: batch_size={batch_size}"
            )

    def distribute(self, batches: Batches) -> Any:
        """Returns a dataset for `fit` or `evaluate` of a model of this strategy.

        Args:
            batches: Gives the batches of replicas `first` to `first + count - 1`, one element per replica, step by
                step: `batches(first, count)`. Each process asks for those of its own replicas alone.
        """

        def own(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = self.replicas // context.num_input_pipelines
            return batches(context.input_pipeline_id * count, count)

        return self.strategy.distribute_datasets_from_function(own)

    def describe(self) -> dict[str, Any]:
        """Returns what `environment.json` says of it."""
        if self.workers > 1:
            name = "multi-worker"
        else:
            name = "mirrored" if self.replicas > 1 else "none"
        return {"strategy": name, "replicas": self.replicas, "workers": self.workers}


def choose_strategy(name: str = "auto", *, gpus: int | None = None) -> Distribution:
    """Returns the devices to train on. To be called before TensorFlow does anything else in the process.

    Args:
        name: `none` for one device; `mirrored` for the devices of this host: its GPUs, or where it has none, its
            logical CPU devices; `multi-worker` for those of all hosts that TF_CONFIG or a SLURM step names; `auto`
            for several hosts if they are named, several GPUs if there are any, else one device.
        gpus: How many GPUs of this host to take, 0 for none; all by default.

    Raises:
        ValueError: If the name is unknown, there are not so many GPUs, or no hosts are named.
        OSError: If the port of this worker is in use.
        TimeoutError: If another worker did not start in time, see `pipelines.distribution.rendezvous`.

    Example:
        >>> choose_strategy("none").replicas
        1
    """
    if name not in STRATEGIES:
        raise InputError(f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: strategy={name!r}")
    cluster = find_cluster() if name in ("auto", "multi-worker") else None
    _take(gpus)
    devices = _devices()
    if name == "multi-worker" and cluster is None:
        raise InputError(
            "Several workers are named by TF_CONFIG or by a SLURM step, or started by `medkeras launch`. "
            "Received: strategy='multi-worker' and neither"
        )
    if cluster is not None and (name == "multi-worker" or len(cluster.workers) > 1):
        return _several_hosts(cluster, has_gpus="GPU" in devices[0])
    if name == "mirrored" or (name == "auto" and len(devices) > 1 and "GPU" in devices[0]):
        # Collective reductions wait for each other in threads that a small machine may not have.
        reduction = None if "GPU" in devices[0] else tf.distribute.ReductionToOneDevice()
        return Distribution(tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction))
    if gpus is not None and gpus > 1:
        raise InputError(f"Without a strategy there is one device. Received: gpus={gpus}, strategy={name!r}")
    return Distribution(tf.distribute.get_strategy())


def _take(gpus: int | None) -> None:
    """Hides all GPUs but the first ones."""
    if gpus is None:
        return
    there = tf.config.list_physical_devices("GPU")
    if not 0 <= gpus <= len(there):
        raise InputError(f"`gpus` must be at most the {len(there)} of this host. Received: gpus={gpus}")
    tf.config.set_visible_devices(there[:gpus], "GPU")


def _devices() -> list[str]:
    """Returns the visible GPUs, or else the logical CPU devices, without starting TensorFlow's runtime."""
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        return [f"GPU:{i}" for i in range(len(gpus))]
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = tf.config.get_logical_device_configuration(cpu) or [None]
    return [f"CPU:{i}" for i in range(len(parts))]


def _several_hosts(cluster: Cluster, *, has_gpus: bool) -> Distribution:
    check_free(cluster.port)
    meet(cluster, seconds=waiting_seconds())
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    kind = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(implementation=kind.AUTO if has_gpus else kind.RING)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, communication_options=options)
    return Distribution(strategy, worker=cluster.index, workers=len(cluster.workers))


@contextlib.contextmanager
def precision_of(name: str) -> Iterator[None]:
    """Builds models in a precision, within the block: weights and losses stay in float32.

    Args:
        name: A Keras policy: `float32`, `mixed_bfloat16` or `mixed_float16`.

    Example:
        >>> with precision_of("mixed_bfloat16"):
        ...     keras.layers.Dense(1).compute_dtype
        'bfloat16'
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
