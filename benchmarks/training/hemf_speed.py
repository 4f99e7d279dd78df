"""HEMF at full size on a CPU: inference and a training step, as shares of the machine's own matrix products.

    python benchmarks/training/hemf_speed.py
    python benchmarks/training/hemf_speed.py --profile
    TF_ENABLE_ONEDNN_OPTS=1 python benchmarks/training/hemf_speed.py

The rate of the machine is that of large float32 matrix products, measured in the same rounds, by TensorFlow and by
numpy; the faster counts. An image costs 10.25 billion multiply-adds (33.2 for CAME), a training step three times that.
The targets: at least 65 % of that rate in inference, 35 % in training. Each row has a process of its own, for its peak
memory, and takes turns with the products; the median counts. One network at a time is in memory. `--profile` says
where one row's time goes instead.
"""

import argparse
import collections
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from medkeras.models import create
from medkeras.tasks import default_loss
from pipelines.runtime.memory import keep_freed_memory

Run = Callable[[], object]
EDGE, CLASSES = 224, 7
MULTIPLY_ADDS = {"hemf": 10.246e9, "came": 33.16e9}  # per image of 224 pixels, attention included
MATRIX = 2048
PASSES = {"inference": 1, "training": 3}  # forward; forward and both gradients
POLICIES = ("float32", "mixed_bfloat16")
# What a node's name says of its part of the network; the first that fits counts.
PARTS = (
    ("optimiser", r"[Aa]dam|Assign|update"),
    ("depthwise 5x5 (LePE)", r"retention.*/local"),
    ("retention, projections", r"retention.*/(query|key|value|project)"),
    ("retention, the rest", r"retention"),
    ("depthwise 3x3", r"_depthwise"),
    ("external attention", r"_memory"),
    ("window attention", r"_attention"),
    ("gates", r"_gate|_channels"),
    ("GELU", r"gelu"),
    ("norms", r"norm"),
    ("convolutions 3x3", r"_conv\b|_conv_|_conv/"),
    ("stems", r"_shrink"),
    ("linear", r"_linear|_map_|_mix|_carry|_squeeze|_expand|_project"),
)


def matrix_products(library: str) -> Run:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, MATRIX, MATRIX), np.float32)
    if library == "numpy":
        return lambda: a @ b
    x, y = tf.constant(a), tf.constant(b)
    product = tf.function(tf.matmul)
    return lambda: product(x, y).numpy()


def network(arguments: argparse.Namespace, *, what: str, policy: str, jit: bool) -> Run:
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_dtype_policy(policy)
    model = create(arguments.model, input_shape=(EDGE, EDGE, 3), num_classes=CLASSES)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.random((arguments.batch, EDGE, EDGE, 3), np.float32))
    labels = tf.constant(rng.integers(0, CLASSES, arguments.batch))
    if what == "inference":
        infer = tf.function(lambda x: model(x, training=False), jit_compile=jit)
        return lambda: infer(images).numpy()
    model.compile(keras.optimizers.AdamW(1e-4, weight_decay=1e-2), default_loss(model.task), jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, jit_compile=jit)
    return lambda: float(step((images, labels))["loss"])


def rows_of(arguments: argparse.Namespace) -> dict[str, tuple[str, dict]]:
    """Returns, by the row's name, which function makes what is run, and its arguments."""
    rows = {f"matrix product, {library}": ("products", {"library": library}) for library in ("TensorFlow", "numpy")}
    for what in PASSES:
        for policy in POLICIES:
            for jit in (False, True):
                name = f"{what}, {policy}" + (", XLA" if jit else "")
                rows[name] = ("network", {"what": what, "policy": policy, "jit": jit})
    return {name: row for name, row in rows.items() if row[0] == "products" or re.search(arguments.rows, name)}


_OF_PROCESS: dict[str, Run] = {}


def prepare(row: tuple[str, dict], arguments: argparse.Namespace) -> Run:
    keep_freed_memory()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    kind, options = row
    return matrix_products(**options) if kind == "products" else network(arguments, **options)


def seconds_per_run(row: tuple[str, dict], arguments: argparse.Namespace) -> tuple[float, float]:
    """Times some runs in a process that keeps what it runs; returns the first run's seconds too, once."""
    first = 0.0
    if not _OF_PROCESS:
        _OF_PROCESS["run"] = prepare(row, arguments)
        start = time.perf_counter()
        _OF_PROCESS["run"]()
        first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(arguments.steps):
        _OF_PROCESS["run"]()
    return (time.perf_counter() - start) / arguments.steps, first


def peak_mebibytes() -> float:
    """Returns the most memory that the process itself has held; `ru_maxrss` begins at its parent's."""
    (line,) = (x for x in pathlib.Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns, for each row, the median seconds, those of the first run, and the peak memory.

    One network at a time is in memory; the matrix products beside it give its rate.
    """
    rows = rows_of(arguments)
    products = {name: pool_of() for name, row in rows.items() if row[0] == "products"}
    found, of_products = {}, collections.defaultdict(list)
    for name, (kind, options) in rows.items():
        if kind == "network":
            with pool_of() as pool:
                timed = take_turns({**products, name: pool}, rows, arguments)
                found[name] = timed.pop(name) | {"peak": pool.submit(peak_mebibytes).result()}
            rate = max(MATRIX**3 / row["seconds"] for row in timed.values())
            count = arguments.batch * MULTIPLY_ADDS[arguments.model] * PASSES[options["what"]]
            found[name] |= {"billions": count / found[name]["seconds"] / 1e9}
            found[name] |= {"share": found[name]["billions"] * 1e9 / rate}
            for product, row in timed.items():
                of_products[product].append(row["seconds"])
    for product, pool in products.items():
        seconds = float(np.median(of_products[product]))
        peak = pool.submit(peak_mebibytes).result()
        found[product] = {"seconds": seconds, "peak": peak, "billions": MATRIX**3 / seconds / 1e9}
        pool.shutdown()
    return found


def pool_of() -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def take_turns(pools: dict, rows: dict, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns the median seconds of each row, and those of its first run."""
    seconds, first = collections.defaultdict(list), collections.Counter()
    for _ in range(arguments.rounds):
        for name, pool in pools.items():
            value, start = pool.submit(seconds_per_run, rows[name], arguments).result()
            seconds[name].append(value)
            first[name] += start
    return {name: {"seconds": float(np.median(seconds[name])), "first": first[name]} for name in pools}


def profile(arguments: argparse.Namespace) -> list[tuple[str, str, int, float]]:
    """Returns part, operation, count and milliseconds of one run of the first row that fits, the longest first.

    Of each node, the shortest of several runs counts: what else the machine does, only adds.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (arguments.profiled, row), *_ = ((n, r) for n, r in rows_of(arguments).items() if r[0] == "network")
    run, shortest = prepare(row, arguments), {}
    run()
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3, python_tracer_level=0)
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            tf.profiler.experimental.start(folder, options=options)
            run()
            tf.profiler.experimental.stop()
            space = xplane_pb2.XSpace()
            space.ParseFromString(next(pathlib.Path(folder).rglob("*.xplane.pb")).read_bytes())
        for plane in space.planes:
            for event in (event for line in plane.lines for event in line.events):
                node = plane.event_metadata[event.metadata_id].name
                if re.fullmatch(r"[\w/.-]+:_?[A-Z]\w+", node):
                    shortest[node] = min(shortest.get(node, np.inf), event.duration_ps / 1e9)
    total, count = collections.Counter(), collections.Counter()
    for node, milliseconds in shortest.items():
        key = part_of(node), node.rpartition(":")[2]
        total[key] += milliseconds
        count[key] += 1
    return [(*key, count[key], milliseconds) for key, milliseconds in total.most_common()]


def part_of(node: str) -> str:
    part = next((part for part, pattern in PARTS if re.search(pattern, node)), "other")
    return f"{part}, gradient" if "gradient" in node else part


def show(table: Table) -> None:
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MULTIPLY_ADDS), default="hemf")
    parser.add_argument("--batch", type=int, default=4, help="images per batch")
    parser.add_argument("--threads", type=int, default=2, help="threads of an operation, and operations at a time")
    parser.add_argument("--steps", type=int, default=1, help="runs per row and round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all rows, of which the median counts")
    parser.add_argument("--rows", default="", help="regular expression: the rows to measure")
    parser.add_argument("--profile", action="store_true", help="say where the time of the first row goes")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)
    if arguments.profile:
        found = profile(arguments)
        parts = collections.Counter()
        for part, _, _, milliseconds in found:
            parts[part] += milliseconds
        for title, lines in (("part", parts.most_common()), ("part, operation, count", found[:40])):
            table = Table(f"{arguments.profiled}: {title}", "ms")
            for *names, milliseconds in lines:
                table.add_row(", ".join(map(str, names)), f"{milliseconds:.1f}")
            show(table)
        print(json.dumps({**vars(arguments), "parts": dict(parts)}))
        return
    found = measure(arguments)
    table = Table("", "seconds", "GMAC/s", "peak memory, MiB", "share", "first run, s")
    for name, row in found.items():
        cells = [f"{row['seconds']:.3f}", f"{row['billions']:.1f}", f"{row['peak']:,.0f}"]
        cells += [f"{row['share']:.0%}", f"{row['first']:.1f}"] if "share" in row else ["", ""]
        table.add_row(name, *cells)
    show(table)
    print(json.dumps({**vars(arguments), "rows": found}))


if __name__ == "__main__":
    main()
