"""Figures of how sure a model is: they hold what was measured, and can be drawn of any shape."""

import dataclasses
import types

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from medkeras.evaluation import OperatingPoint, expected_calibration_error
from medkeras.explain import class_map
from medkeras.uncertainty import LogitScaling, risk_coverage
from pipelines.evaluation import gallery
from pipelines.evaluation import uncertainty_figures as figures
from pipelines.inference.answers import Answers, Sampling
from pipelines.inference.calibration import Calibration
from pipelines.inference.trained_model import Trained
from pipelines.sources import open_source
from spot_net import SpotNet

RNG = np.random.default_rng(0)


def predicted(classes, count=300):
    logits = RNG.normal(0, 1.5, (count, classes))
    labels = np.array([RNG.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return labels, {"before": softmax(3 * logits, axis=1), "after": softmax(logits, axis=1)}


def drawn(figure):
    """The figure as pixels; what cannot be laid out warns here."""
    figure.set_dpi(60)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_reliability_is_the_curve_of_scikit_learn():
    labels, scores = predicted(2)
    figure = figures.reliability_figure(labels, scores, task="binary", class_names=["no", "yes"], bins=10)
    above, below = figure.axes
    for line, counts, probabilities in zip(above.lines[1:], below.patches, scores.values(), strict=True):
        frequency, confidence = calibration_curve(labels, probabilities[:, 1], n_bins=10)
        np.testing.assert_allclose(line.get_xydata(), np.stack([confidence, frequency], axis=1))
        assert counts.get_data().values.sum() == len(labels)
    errors = [expected_calibration_error(labels, p, task="binary", bins=10) for p in scores.values()]
    assert texts(above) == [f"{name}: error {error:.3f}" for name, error in zip(scores, errors, strict=True)]
    many, probabilities = predicted(8)
    figure = figures.reliability_figure(many, probabilities, task="multiclass", class_names=[f"{i}" for i in range(8)])
    assert figure.axes[0].get_ylabel() == "share that is right"


@pytest.mark.filterwarnings("error")
def test_long_names_stay_inside():
    name = "a finding whose name goes on and on, as those of radiology and of pathology do"
    labels, scores = predicted(2)
    figure = figures.reliability_figure(labels, scores, task="binary", class_names=["no", name])
    picture, box, (above, below) = drawn(figure), figure.bbox, figure.axes
    assert picture.std() > 10
    for label in (above.yaxis.label, below.xaxis.label):
        extent = label.get_window_extent()
        assert box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1


def test_risk_by_coverage_marks_what_is_referred():
    losses, unsure = RNG.integers(0, 2, 50).astype(float), RNG.random(50)
    figure = figures.risk_coverage_figure(losses, {"entropy": unsure, "other": -unsure}, threshold=0.6, risk=0.1)
    (axes,) = figure.axes
    curve = risk_coverage(losses, unsure)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.stack([curve.coverage, curve.risk], axis=1))
    kept = unsure <= 0.6
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[kept.mean(), losses[kept].mean()]])
    assert texts(axes)[0] == f"entropy: area {curve.aurc:.4f}"
    assert texts(axes)[-1] == f"referred above 0.600: {100 * (1 - kept.mean()):.1f} %"
    assert drawn(figure).std() > 10
    none_kept = figures.risk_coverage_figure(losses, {"entropy": unsure}, threshold=-np.inf, risk=0.1)
    assert texts(none_kept.axes[0])[-1] == "everything is referred"
    with pytest.raises(ValueError, match="at least one"):
        figures.risk_coverage_figure(losses, {})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("shape", "mapped", "count"), [((12, 16, 1), True, 4), ((6, 8, 10, 1), True, 1), ((8, 8, 3), False, 2)]
)
def test_a_gallery_shows_each_image_and_its_map(shape, mapped, count):
    image = RNG.random(shape)
    seen = np.zeros(shape[:-1])
    seen[(2,) * seen.ndim] = 1.0
    lines = ("scan.png", "true: " + "long " * 30)
    picture = figures.Unsure(image, seen if mapped else None, seen > 0.5, lines)
    figure = figures.uncertain_figure([picture] * count, title="Least sure")
    parts = [part for part in figure.subfigs if part.axes]
    assert [len(part.axes) for part in parts] == [2 if mapped else 1] * count
    shown = parts[0].axes[0].images[0].get_array()
    np.testing.assert_allclose(np.squeeze(shown), np.squeeze(image[2] if len(shape) == 4 else image))
    heading = parts[0].get_suptitle().splitlines()
    assert heading[0] == "scan.png" and max(map(len, heading)) <= 52
    assert "".join(heading[1:]).replace(" ", "") == "true:" + "long" * 30
    assert drawn(figure).std() > 10
    with pytest.raises(ValueError, match="at least one picture"):
        figures.uncertain_figure([], title="none")


def test_a_gallery_has_true_proportions():
    seen = np.eye(8, 16)
    pictures = [figures.Unsure(seen[..., None], seen, None, ("a",), spacing) for spacing in (None, (4.0, 1.0))]
    figure = figures.uncertain_figure(pictures, title="Least sure")
    drawn(figure)
    boxes = [part.axes[k].get_window_extent() for part in figure.subfigs for k in (0, 1)]
    np.testing.assert_allclose([box.height / box.width for box in boxes], [0.5, 0.5, 2, 2], rtol=0.01)
    volume = RNG.random((4, 8, 16))
    picture = figures.Unsure(volume[..., None], volume, None, ("a",), (9.0, 3.0, 1.0))
    figure = figures.uncertain_figure([picture], title="Least sure")
    drawn(figure)
    box = figure.subfigs[0].axes[0].get_window_extent()
    assert box.height / box.width == pytest.approx(1.5, rel=0.01)


def test_the_gallery_is_of_the_least_sure(monkeypatch):
    records = open_source("phantom", images=20, size=16)
    records = dataclasses.replace(records, read_spacing=lambda i: (i + 1.0, 2.0))
    model = SpotNet((16, 16, 1), num_classes=2, class_names=records.class_names)
    answers = Answers.of_logits(RNG.normal(size=(20, 2)), LogitScaling("binary"))
    point = OperatingPoint("binary", (0.9,), "by hand")
    trained = Trained(model, Sampling(), point, Calibration(LogitScaling("binary")))
    asked = types.SimpleNamespace()
    monkeypatch.setattr(gallery, "uncertain_figure", lambda pictures, title: asked.__setattr__("pictures", pictures))
    gallery.least_sure(records, answers, trained, count=5)
    order = np.argsort(-answers.found.entropy)[:5]
    images = np.stack([records.read(i)[..., None] / 255 for i in order]).astype("float32")
    decided = (answers.probabilities[order, 1] > 0.9).astype(int)
    maps = class_map(model, images, target=decided)
    for picture, i, image, found, chosen in zip(asked.pictures, order, images, maps, decided, strict=True):
        np.testing.assert_allclose(picture.image, image, atol=1e-6)
        np.testing.assert_allclose(picture.class_map, found, atol=1e-5)
        assert picture.mask.sum() == records.read_mask(i).sum() and picture.spacing == (i + 1, 2)
        name, true, predicted_as, entropy = picture.lines
        assert (name, true) == (records.table["id"][i], f"true: {records.class_names[records.labels[i]]}")
        probability = answers.probabilities[i, chosen]
        assert predicted_as == f"predicted: {records.class_names[chosen]} {probability:.2f}"
        assert entropy.startswith(f"entropy {answers.found.entropy[i]:.3f} nats, ")
