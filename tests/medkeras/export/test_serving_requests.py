"""The requests of docs/serving.md, asked as they stand there: REST, the client in Python, gRPC and the warm-up."""

import base64
import io
import json
import re

import cv2
import numpy as np
import pytest

from export_models import SeenNet, images, randomize
from medkeras.export.inference import inference_function
from medkeras.export.saved_model.signatures import SIGNATURES, endpoint
from medkeras.export.saved_model.warmup import write_warmup
from paths import ROOT

tf = pytest.importorskip("tensorflow")
GUIDE = (ROOT / "docs" / "serving.md").read_text()
PNG = cv2.imencode(".png", np.arange(48, dtype=np.uint8).reshape(8, 6))[1].tobytes()
NEEDS_API = "no tensorflow-serving-api; `pip install 'medkeras[serving]'` brings it"


@pytest.fixture(scope="module")
def server():
    """A model of two by two pixels, as the guide's bodies have them, behind all four signatures."""
    model = randomize(SeenNet((2, 2, 1), num_classes=2))
    image = [tf.TensorSpec((None, 2, 2, 1), tf.float32, name="image")]
    known = {"serving_default": (inference_function(model), image)}
    return Server(model, known | {name: endpoint(name, model) for name in SIGNATURES})


class Server:
    """Answers requests as TF Serving does, by the types and shapes of the signatures."""

    def __init__(self, model, known):
        self.model, self.known = model, known

    def answer(self, name, inputs):
        function, specs = self.known[name]
        assert set(inputs) == {spec.name for spec in specs}
        tensors = [tf.convert_to_tensor(inputs[spec.name], spec.dtype) for spec in specs]
        assert all(spec.is_compatible_with(tensor) for spec, tensor in zip(specs, tensors, strict=True))
        return {key: value.numpy() for key, value in function(*tensors).items()}

    def rest(self, body):
        """What the REST API makes of a body: rows under `instances`, whole tensors under `inputs`."""
        is_rows = "instances" in body
        assert set(body) == {"signature_name", "instances" if is_rows else "inputs"}
        inputs = body.get("inputs") or {key: [row[key] for row in body["instances"]] for key in body["instances"][0]}
        found = self.answer(body["signature_name"], {key: decoded(value) for key, value in inputs.items()})
        plain = {key: np.vectorize(text)(v).tolist() if v.dtype == object else v.tolist() for key, v in found.items()}
        if not is_rows:
            return {"outputs": plain}
        return {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}


def decoded(value):
    if isinstance(value, list):
        return [decoded(part) for part in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def text(value):
    return value.decode()


def block(words):
    """The code block of the guide that has these words."""
    (found,) = [code for code in re.findall(r"```\w*\n(.*?)```", GUIDE, re.DOTALL) if words in code]
    return found


def test_the_bodies_of_the_guide_are_answered(server):
    shell = block("curl -s")
    body = re.search(r"-d '(.*)'", shell, re.DOTALL).group(1)
    body = body.replace("""'"$(base64 -w0 scan.png)"'""", base64.b64encode(PNG).decode())
    found, shown = server.rest(json.loads(body)), json.loads(block('"predictions"'))
    assert [sorted(row) for row in found["predictions"]] == [sorted(row) for row in shown["predictions"]]
    bodies = [json.loads(line) for line in block('"signature_name": "explain"').splitlines()]
    assert [body["signature_name"] for body in bodies] == ["serving_default", "explain", "uncertainty"]
    plain, looked, sampled = map(server.rest, bodies)
    assert np.isclose(sum(plain["predictions"][0]["probabilities"]), 1)
    assert np.shape(looked["predictions"][0]["map"]) == (2, 2) and len(looked["predictions"][0]["box"]) == 4
    assert sorted(sampled["outputs"]) == ["entropy", "mean", "mutual_information"]


def test_the_client_of_the_guide_runs(server, tmp_path, monkeypatch, capsys):
    def urlopen(request, timeout):
        assert request.full_url == "http://localhost:8501/v1/models/chest:predict"
        return io.StringIO(json.dumps(server.rest(json.loads(request.data))))

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.jpg").write_bytes(cv2.imencode(".jpg", np.full((9, 9), 200, np.uint8))[1].tobytes())
    exec(block("urllib.request"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a.png", "b.jpg"]
    assert all("finding 0" in line for line in lines) and lines[0][6:] != lines[1][6:]


def test_the_grpc_client_of_the_guide_runs(server, tmp_path, monkeypatch, capsys):
    grpc = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc", reason=NEEDS_API)
    from tensorflow_serving.apis import predict_pb2

    asked = []

    class Stub:
        def __init__(self, channel):
            channel.close()

        def Predict(self, request, timeout):  # noqa: N802
            request = predict_pb2.PredictRequest.FromString(request.SerializeToString())
            assert request.model_spec.name == "chest" and timeout == 60.0
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            found, answer = server.answer(request.model_spec.signature_name, inputs), predict_pb2.PredictResponse()
            for key, value in found.items():
                answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            asked.append(request.model_spec.signature_name)
            return answer

    monkeypatch.setattr(grpc, "PredictionServiceStub", Stub)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.png").write_bytes(PNG)
    names = {"images": images(server.model, 2)}
    exec(block("import grpc"), names)
    printed = capsys.readouterr().out
    wanted = server.answer("serve_bytes", {"image_bytes": [PNG]})["probabilities"]
    assert printed.strip() == str(wanted)
    exec(block('request.ClearField("inputs")'), names)
    found = names["server"].Predict(names["request"], 60.0)
    assert asked == ["serve_bytes", "uncertainty"] and tf.make_ndarray(found.outputs["mean"]).shape == (2, 2)


def test_the_warm_up_is_read_by_the_protos_of_tf_serving(server, tmp_path):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason=NEEDS_API)
    write_warmup(tmp_path / "requests", server.model, SIGNATURES)
    records = tf.data.TFRecordDataset(str(tmp_path / "requests")).as_numpy_iterator()
    found = [logs.PredictionLog.FromString(record) for record in records]
    assert [log.WhichOneof("log_type") for log in found] == ["predict_log"] * 4
    requests = [log.predict_log.request for log in found]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", *SIGNATURES]
    for request in requests:
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        answer = server.answer(request.model_spec.signature_name, inputs)
        assert request.model_spec.name == "seen_net" and all(len(value) == 1 for value in answer.values())
        assert request.ByteSize() and not request.output_filter
