"""Training on several hosts by `fit`, `evaluate` and `predict`, and how the processes agree.

Keras does not support several hosts on TensorFlow; two of its private methods stand in the way. `join` replaces them on
one model, for the versions of Keras that have them.
"""

import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

import medkeras
import pipelines
from medkeras.errors import InputError
from pipelines.distribution.strategy import Distribution

Result = TypeVar("Result")
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
GONE = re.compile(r"reported from|connect|unavailable|socket|heartbeat|peer|timed out|shut ?down", re.IGNORECASE)


class WorkerLostError(ConnectionError):
    """A process of a training on several hosts is gone."""


def join(model: keras.Model) -> keras.Model:
    """Makes `fit`, `evaluate` and `predict` of a compiled model work on several hosts, and returns the model.

    On several devices of one host they work by themselves, but for `evaluate` with steps, which looks for a batch to
    build from where the last evaluation ended, and for losses that layers add: replicas share the layers, and each
    would log those of the others too.

    Args:
        model: Built and compiled within the scope of its strategy.

    Raises:
        RuntimeError: If this version of Keras does not have the methods that need to be replaced.
    """
    if not all(hasattr(model, name) for name in ("_maybe_symbolic_build", "_symbolic_build")):
        raise RuntimeError(f"Several hosts need another version of Keras. Received: keras {keras.__version__}")
    model._maybe_symbolic_build = functools.partial(_build_from_one_replica, model)
    for layer in model._flatten_layers():
        layer.add_loss = functools.partial(_add_own_loss, layer.add_loss)
    model._aggregate_additional_loss = functools.partial(_own_loss, model._aggregate_additional_loss)
    if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        # Keras averages what the steps of several hosts return over its first axis, which a scalar does not have.
        model.train_step = functools.partial(_step_of_rows, model.train_step)
        model.test_step = functools.partial(_step_of_rows, model.test_step)
    return model


def _step_of_rows(step: Callable[[Any], Mapping[str, Any]], data: Any) -> dict[str, Any]:
    return {name: tf.reshape(value, (1,)) for name, value in step(data).items()}


def _add_own_loss(add: Callable[[Any], None], loss: Any) -> None:
    loss.of_replica = _replica()
    add(loss)


def _own_loss(aggregate: Callable[[Any], Any], loss: Any) -> Any:
    """Returns a loss that a layer added, zero if it did so for another replica."""
    own = aggregate(loss)
    return own if getattr(loss, "of_replica", _replica()) == _replica() else tf.zeros_like(own)


def _replica() -> int | None:
    context = tf.distribute.get_replica_context()
    if context is None:
        return None
    return int(tf.get_static_value(tf.convert_to_tensor(context.replica_id_in_sync_group)))


def _build_from_one_replica(model: keras.Model, iterator: Any = None, data_batch: Any = None) -> None:
    """Shows Keras the batch of one replica, where it would average those of all hosts; once."""
    if all(part is None or part.built for part in (model._compile_metrics, model._compile_loss)):
        return
    if iterator is not None:
        for _, _, batches in iterator:
            batch = next(batches)
            data_batch = tf.nest.map_structure(
                lambda value: value.values[0] if isinstance(value, tf.distribute.DistributedValues) else value, batch
            )
            break
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=data_batch)


def tell_all(distribution: Distribution, text: str) -> list[str]:
    """Returns the texts that all processes tell, in the order of the workers; waits for all of them.

    Raises:
        WorkerLostError: If one of them is gone.

    Example:
        >>> tell_all(Distribution(tf.distribute.get_strategy()), "here")
        ['here']
    """
    if distribution.workers == 1:
        return [text]
    strategy, own = distribution.strategy, np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    local = len(strategy.extended.worker_devices)
    with noticing_lost_workers():
        # Both are of at least one element: an empty part cannot be gathered.
        sizes = strategy.gather(strategy.run(lambda: tf.constant([len(own) + 1])), axis=0).numpy()
        words = strategy.gather(strategy.run(lambda: tf.constant([*own, 0], tf.int32)), axis=0).numpy()
    parts = np.split(words, np.cumsum(sizes)[:-1])[::local]
    return [bytes(part[:-1].astype(np.uint8)).decode() for part in parts]


def check_alike(distribution: Distribution, facts: Mapping[str, Any]) -> None:
    """Checks that all processes say the same of what they are about to do.

    Args:
        distribution: The processes.
        facts: What must be the same, as plain values; a difference is named by its key.

    Raises:
        ValueError: In every process, if they differ.
        WorkerLostError: If a process is gone.

    Example:
        >>> check_alike(Distribution(tf.distribute.get_strategy()), {"epochs": 3})
    """
    chief, *others = (json.loads(text) for text in tell_all(distribution, json.dumps(dict(facts), sort_keys=True)))
    for number, other in enumerate(others, start=1):
        different = [name for name in {**chief, **other} if chief.get(name) != other.get(name)]
        if different:
            said = ", ".join(f"{name}={other.get(name)!r} (the chief: {chief.get(name)!r})" for name in different)
            raise InputError(
                f"All workers must train the same, with the same code. Received: worker {number} with {said}"
            )


def chief_first(distribution: Distribution, work: Callable[[], Result]) -> Result:
    """Runs the same work in all processes, in the others once the chief has done it.

    Raises:
        ValueError: In the others, if it failed in the chief.
        WorkerLostError: If a process is gone.

    Example:
        >>> chief_first(Distribution(tf.distribute.get_strategy()), lambda: 5)
        5
    """
    if distribution.is_chief:
        try:
            result = work()
        except Exception as error:
            tell_all(distribution, f"{type(error).__name__}: {error}")
            raise
        tell_all(distribution, "")
        return result
    failed = tell_all(distribution, "")[0]
    if failed:
        raise InputError(f"The chief stopped. Received: {failed}")
    return work()


@contextmanager
def noticing_lost_workers() -> Iterator[None]:
    """Raises `WorkerLostError` where TensorFlow reports that a process does not answer."""
    try:
        yield
    except LOST as error:
        reason = " ".join(error.message.split())
        if not GONE.search(reason):
            raise
        found = re.search(r"Error reported from /job:worker/task:(\d+)", reason)
        who = f"Worker {found[1]}" if found else "A worker"
        raise WorkerLostError(
            f"{who} is gone, so the training stopped; start all workers again with the same command, and it goes on "
            f"after its last checkpoint. Received: {reason[-200:]}"
        ) from error


def code_digest() -> str:
    """Returns a digest of the code of this version, which tells apart what has the same version number.

    Example:
        >>> len(code_digest())
        16
    """
    found = hashlib.sha256()
    for package in (medkeras, pipelines):
        root = pathlib.Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]
