"""Every registered model becomes a SavedModel, a LiteRT file and an ONNX file that equal it."""

import keras
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export_models import images
from medkeras.export import check_builtin, compare, export_litert, export_onnx, export_saved_model
from medkeras.export.saved_model.explaining import has_attention
from small_models import distinct_names, small

CASES = [(name, {}) for name in distinct_names()]
CASES += [("focusnet2d", {"compat": "repaired"}), ("focusnet3d", {"compat": "repaired"})]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value))
def test_exports_equal_keras_with_builtin_operators(name, options, tmp_path):
    keras.utils.set_random_seed(0)
    model = small(name, **options)
    x = images(model, 9)
    model(x, training=True)  # moves the statistics of BatchNorm away from 0 and 1
    saved = export_saved_model(model, tmp_path / "1")
    explains = has_attention(model)
    # A model's own map needs a conversion of its own, and both signatures share the weights.
    file = export_litert(model if explains else saved, tmp_path / "model.tflite")
    check_builtin(file)
    assert file.stat().st_size < 1.5 * 4 * model.count_params() + 100_000  # not twice the weights
    onnx = {} if options else {"onnx": export_onnx(model, tmp_path / "model.onnx")}
    # Nine images run as a batch of eight and a batch of one.
    report = compare(model, x, saved_model=saved, litert=file, **onnx)
    assert {report[form]["agreement"] for form in ("saved_model", "litert", *onnx)} == {1.0}
    assert ("map" in report["litert"]) == explains
    assert not sums_of_depthwise(saved)


def sums_of_depthwise(saved):
    """The sums of a depthwise convolution with its BiasAdd: TensorFlow with oneDNN cannot optimize a graph of them."""
    found = []
    graph = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    for function in graph.library.function:
        nodes = {node.name: node for node in function.node_def}

        def source(node, nodes=nodes):
            return nodes.get(node.input[0].split(":")[0]) if node.input else None

        for node in function.node_def:
            parts = [nodes.get(name.split(":")[0]) for name in node.input] if node.op.startswith("Add") else []
            biased = [part for part in parts if part is not None and part.op == "BiasAdd"]
            found += [node.name for part in biased if source(part) and source(part).op.startswith("Depthwise")]
    return found


def test_a_sum_of_a_depthwise_convolution_is_seen(tmp_path):
    class Sum(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 2))])
        def __call__(self, x):
            kernel, bias = tf.ones((3, 3, 2, 1)), tf.ones(2)
            return x + tf.nn.bias_add(tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME"), bias)

    tf.saved_model.save(Sum(), tmp_path)
    assert len(sums_of_depthwise(tmp_path)) == 1
