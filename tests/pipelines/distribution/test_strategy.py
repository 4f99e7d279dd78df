"""Which devices share a training, and what each of them gets of a batch."""

import json
import socket
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import medkeras
import pipelines
from medkeras.backend import replica_seeds
from medkeras.backend.replica_seeds import draw_apart
from pipelines.augment import MixUp
from pipelines.distribution import multi_worker, strategy
from pipelines.distribution.cluster import Cluster, expand_hosts, find_cluster
from pipelines.distribution.strategy import Distribution, choose_strategy
from pipelines.io.run_folder import RunFolder
from pipelines.jobs import train as train_job
from pipelines.jobs.launch import launch
from pipelines.runtime.ports import free_ports
from pipelines.training.build import build_training
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "gpu[2,10]",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
}


def config(**changes):
    values = {
        "data": "phantom",
        "model": "tiny_net",
        "run": "unused",
        "image_size": 16,
        "batch_size": 8,
        "source_options": {"images": 60, "size": 16},
        "augment": "none",
        "leakage": "off",
    }
    return TrainConfig(**(values | changes))


@pytest.fixture(scope="module")
def data():
    return load_data(config())


def shared(replicas):
    """A distribution that says so, without the devices."""
    return Distribution(types.SimpleNamespace(num_replicas_in_sync=replicas))


def test_the_hosts_are_those_of_tf_config_and_else_of_slurm():
    cluster = Cluster(("a:1", "b:2"), 1)
    assert find_cluster({"TF_CONFIG": cluster.to_tf_config()} | SLURM) == cluster
    # As SLURM numbers its tasks: in the order of its list, where gpu10 comes after gpu2.
    ports = ("gpu2:7000", "gpu2:7001", "gpu2:7002", "gpu10:7000", "gpu10:7001")
    assert find_cluster(SLURM | {"MEDKERAS_PORT": "7000"}) == Cluster(ports, 3)
    with_chief = {"cluster": {"chief": ["c:1"], "worker": ["w:1"]}, "task": {"type": "worker", "index": 0}}
    assert find_cluster({"TF_CONFIG": json.dumps(with_chief)}) == Cluster(("c:1", "w:1"), 1)
    assert find_cluster({}) is find_cluster({"TF_CONFIG": "{}"}) is None
    assert find_cluster(SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert expand_hosts("a[1-2,09]-ib,b") == ["a1-ib", "a2-ib", "a09-ib", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_a_cluster_that_cannot_be_understood_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="Received: "):
        choose_strategy()


def test_what_the_devices_cannot_do_is_refused(monkeypatch, data):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="at most the 0 of this host. Received: gpus=2"):
        choose_strategy("mirrored", gpus=2)
    with pytest.raises(ValueError, match="medkeras launch.*Received: strategy='multi-worker'"):
        choose_strategy("multi-worker")
    with pytest.raises(ValueError, match="multiple of their number, 3. Received: batch_size=8"):
        build_training(config(), data, distribution=shared(3))
    with pytest.raises(ValueError, match="Received: jit='on' and sync_batch_norm=True with 2 replicas"):
        build_training(config(jit="on", sync_batch_norm=True), data, distribution=shared(2))
    with pytest.raises(ValueError, match="Received: accumulate=2 with 2 replicas"):
        build_training(config(accumulate=2), data, distribution=shared(2))
    with pytest.raises(ValueError, match="SLURM step.*Received: SLURM_PROCID=3"):
        find_cluster(SLURM | {"SLURM_STEP_TASKS_PER_NODE": "3"})
    for wrong in ({"strategy": "horovod"}, {"precision": "float16"}, {"jit": "yes"}, {"gpus": -1}):
        with pytest.raises(ValueError, match=f"Received: {next(iter(wrong))}="):
            config(**wrong)


def test_a_port_in_use_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("TF_CONFIG", Cluster((f"localhost:{port}", "localhost:1"), 0).to_tf_config())
        with pytest.raises(OSError, match=f"Nothing can listen on port {port}"):
            choose_strategy("multi-worker")
        with pytest.raises(OSError, match=f"Nothing can listen on port {port}"):
            launch(["train"], workers=2, port=port - 1)


@pytest.mark.parametrize(
    ("name", "gpus", "devices"),
    [
        ("auto", None, ["GPU:0", "GPU:1", "GPU:2"]),
        ("auto", 2, ["GPU:0", "GPU:1"]),
        ("auto", 1, None),
        ("auto", 0, None),
        ("mirrored", 1, ["GPU:0"]),
        ("mirrored", 0, ["CPU:0"]),
        ("none", 1, None),
    ],
)
def test_the_gpus_that_are_asked_for_share_a_step(monkeypatch, name, gpus, devices):
    visible, cpus = {"GPU": ["first", "second", "third"]}, tf.config.list_physical_devices("CPU")
    there = visible["GPU"]
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: there if kind == "GPU" else cpus)
    monkeypatch.setattr(tf.config, "get_visible_devices", visible.get)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda taken, kind: visible.update({kind: taken}))
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda *args, **options: (*args, options))
    chosen = choose_strategy(name, gpus=gpus).strategy
    assert visible["GPU"] == there[:gpus]
    if devices is None:
        assert chosen is tf.distribute.get_strategy()
    else:
        assert chosen[0] == devices
        assert (chosen[1]["cross_device_ops"] is None) == ("GPU" in devices[0])


def test_several_gpus_without_a_strategy_are_refused(monkeypatch):
    there = ["first", "second"]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: there)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: there)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *_: None)
    with pytest.raises(ValueError, match="there is one device. Received: gpus=2, strategy='none'"):
        choose_strategy("none", gpus=2)


@pytest.mark.parametrize(("gpus", "implementation"), [([], "RING"), (["first"], "AUTO")])
def test_hosts_meet_before_tensorflow_connects_them(monkeypatch, gpus, implementation):
    met, port = [], free_ports(1)[0]
    cluster = Cluster((f"localhost:{port}", "b:1"), 0)
    monkeypatch.setenv("TF_CONFIG", cluster.to_tf_config())
    monkeypatch.setenv("MEDKERAS_WAIT", "7")
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus)
    monkeypatch.setattr(strategy, "meet", lambda *who, **how: met.append((*who, how)))

    def connected(resolver, communication_options):
        assert met == [(cluster, {"seconds": 7})]
        assert communication_options.implementation.name == implementation
        assert resolver.cluster_spec().as_dict() == {"worker": list(cluster.workers)}
        return types.SimpleNamespace(num_replicas_in_sync=2)

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", connected)
    chosen = choose_strategy("auto")
    assert chosen.describe() == {"strategy": "multi-worker", "replicas": 2, "workers": 2}
    assert chosen.is_chief


def test_workers_of_several_devices_tell_each_their_own_once():
    told, turn = ("one", "two2"), iter(range(2))

    def gather(own, axis):
        parts = [([len(text) + 1], [*text.encode(), 0])[turn_now] for text in told for _ in range(2)]
        assert own.numpy().tolist() == parts[0]
        return tf.constant([value for part in parts for value in part])

    def run(function):
        nonlocal turn_now
        turn_now = next(turn)
        return function()

    turn_now, devices = 0, types.SimpleNamespace(worker_devices=("CPU:0", "CPU:1"))
    workers = Distribution(types.SimpleNamespace(extended=devices, run=run, gather=gather), worker=0, workers=2)
    assert multi_worker.tell_all(workers, "one") == ["one", "two2"]


@pytest.mark.parametrize(
    ("error", "who"),
    [
        (tf.errors.UnavailableError(None, None, "Connection refused"), "A worker is gone"),
        (
            tf.errors.AbortedError(None, None, "Error reported from /job:worker/task:3: socket closed"),
            "Worker 3 is gone",
        ),
        (tf.errors.InternalError(None, None, "a shape that does not fit"), None),
        (tf.errors.InvalidArgumentError(None, None, "Connection refused"), None),
    ],
)
def test_only_what_tells_of_a_lost_worker_is_said_to_be_one(error, who):
    with (
        pytest.raises(multi_worker.WorkerLostError if who else type(error), match=who or error.message),
        multi_worker.noticing_lost_workers(),
    ):
        raise error


def test_the_rows_of_all_workers_are_the_batch_of_one():
    # Images are mixed with their neighbours: a worker needs those of others too.
    augment = [MixUp()]
    stream = pipelines.load("phantom", images=60, size=16, batch_size=8, leakage="off", augment=augment).train_stream
    whole = next(iter(stream(3).skip(1)))
    parts = [next(iter(stream(3, rows=rows).skip(1))) for rows in ((0, 2), (2, 6), (6, 8))]
    for value, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(value, tf.concat(pieces, axis=0), atol=1e-6)


@pytest.mark.parametrize(("replicas", "batch_size"), [(1, 8), (2, 8), (4, 4), (3, 60), (9, 18)])
def test_every_image_is_evaluated_once_and_no_replica_is_without(data, replicas, batch_size):
    split = data.pipelines["train"]
    split = type(split)(data.records["train"], image_shape=(16, 16, 1), batch_size=batch_size)
    shares = [split.shared_batches(replicas=replicas, first=i) for i in range(replicas)]
    steps = list(zip(*(list(share) for share in shares), strict=True))
    assert len(steps) == split.shared_steps(replicas)
    sizes = np.array([[len(labels) for _, labels in step] for step in steps])
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1
    images = np.concatenate([image for step in steps for image, _ in step])
    np.testing.assert_array_equal(images, np.concatenate([image for image, _ in split.batches()]))
    # The devices of one worker come one after the other.
    if replicas == 9:
        own = [labels.numpy().tolist() for _, labels in split.shared_batches(replicas=9, first=3, count=3)]
        assert own == [step[i][1].numpy().tolist() for step in steps for i in (3, 4, 5)]


def test_fewer_images_than_replicas_are_refused(data):
    with pytest.raises(ValueError, match="Each replica needs an image of a split. Received: "):
        data.pipelines["val"].shared_batches(replicas=100)


def test_a_batch_and_a_rate_may_be_those_of_each_device():
    each = config(batch_per_replica=True, scale_learning_rate=True, learning_rate=0.1).on_replicas(4)
    assert (each.batch_size, each.learning_rate) == (32, pytest.approx(0.4))
    assert config().on_replicas(4) == config()


def test_replicas_drop_other_units_and_one_device_those_it_always_has(monkeypatch):
    own, apart = keras.layers.Dropout(0.5, seed=3), keras.layers.Dropout(0.5, seed=3)
    image = keras.Input((400,))
    draw_apart(keras.Model(image, apart(image)))
    ones = keras.ops.ones((2, 400))
    np.testing.assert_array_equal(own(ones, training=True), apart(ones, training=True))
    masks = []
    for replica in range(8):
        monkeypatch.setattr(replica_seeds, "_replica", lambda replica=replica: tf.constant(replica))
        apart.seed_generator.state.assign([3, 1])
        masks.append(np.asarray(apart(ones, training=True)).ravel() / 2)
    agreement = np.corrcoef(masks) - np.eye(8)
    assert np.abs(agreement).max() < 0.2  # 800 units: five standard deviations.
    # Every model of ours does so by itself.
    (dropout,) = medkeras.models.create("tiny_net", input_shape=(16, 16, 1), num_classes=2).stochastic
    assert isinstance(dropout.seed_generator, replica_seeds.ReplicaSeeds)


@pytest.mark.parametrize(("precision", "jit"), [("mixed_bfloat16", "on"), ("mixed_float16", "off")])
def test_half_precision_computes_in_half_and_keeps_whole_weights(precision, jit, data):
    training, model = build_training(config(precision=precision, jit=jit), data)
    history = training.fit(data.train_stream(), steps_per_epoch=2, verbose=0, shuffle=False).history
    assert training.jit_compile == (jit == "on")
    assert all(np.isfinite(history["loss"]))
    assert precision.removeprefix("mixed_") in {layer.compute_dtype for layer in model.layers}
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    # What is saved is built anew, after the training, and computes in float32.
    twin = type(model).from_config(model.get_config())
    assert {layer.compute_dtype for layer in twin.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_workers_that_would_train_something_else_are_told_apart(monkeypatch):
    facts = {"epochs": 3, "keras": "3.15.1", "code": "a"}
    told = [json.dumps(facts), json.dumps(facts), json.dumps(facts | {"epochs": 4, "code": "b"})]
    monkeypatch.setattr(multi_worker, "tell_all", lambda *_: told)
    with pytest.raises(ValueError, match=r"worker 2 with epochs=4 \(the chief: 3\), code='b' \(the chief: 'a'\)"):
        multi_worker.check_alike(shared(3), facts)
    monkeypatch.setattr(multi_worker, "tell_all", lambda *_: ["OSError: no space", ""])
    with pytest.raises(ValueError, match="The chief stopped. Received: OSError: no space"):
        multi_worker.chief_first(Distribution(None, worker=1, workers=2), lambda: 1 / 0)


@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_that_is_gone_once_all_is_done_is_not_missed(tmp_path, monkeypatch, worker):
    def gone(*_):
        raise multi_worker.WorkerLostError("Worker 1 is gone")

    monkeypatch.setattr(multi_worker, "tell_all", gone)
    for name in ("calibrate", "load_model", "_say_how_sure"):
        monkeypatch.setattr(train_job, name, lambda *_, **__: None)
    workers, data = Distribution(None, worker=worker, workers=2), types.SimpleNamespace(records={"val": None})
    with pytest.raises(multi_worker.WorkerLostError):
        train_job._end(RunFolder(tmp_path), data, workers, Console())
    (tmp_path / "operating_point.json").write_text("{}")
    train_job._end(RunFolder(tmp_path), data, workers, Console())


FAILING = """
import json, os, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print("not shown")
if index == 1 and sys.argv[-1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if index == 1 and sys.argv[-1] == "refused":
    sys.exit("error: a rule")
time.sleep(0 if sys.argv[-1] == "fine" else 60)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("fine", 0, ""), ("killed", 137, "Worker 1 was ended by SIGKILL"), ("refused", 1, "with code 1, error: a rule")],
)
def test_launched_workers_end_together(tmp_path, monkeypatch, capfd, end, code, said):
    monkeypatch.setattr("pipelines.jobs.launch.GRACE_SECONDS", 0.5)
    program = tmp_path / "program.py"
    program.write_text(FAILING)
    console = Console()
    assert launch(["train", end], workers=3, program=[sys.executable, str(program)], console=console) == code
    out = capfd.readouterr().out
    assert said in out
    assert out.count("not shown") <= 1  # The chief's alone.
