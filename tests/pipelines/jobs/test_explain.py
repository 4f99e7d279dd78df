"""The explain job: pictures and fixations of a run, from its own test images or from files."""

import io
import json

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

import medkeras
from dicom_files import write_dicom
from medkeras.explain import fixations
from pipelines.cli.main import main
from pipelines.images.decode import fit
from pipelines.jobs import explain as job
from pipelines.jobs.explain import explain_run
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from tiny_model import TinyNet
from untrained_run import write_run

NAMES = ("healthy", "lesion")


def make_run(path, model, **config):
    config = {"source_options": {"images": 60}} | config
    return write_run(TrainConfig(data="phantom", model="focusnet2d_tiny", run=str(path), **config), model)


def create(name="focusnet2d_tiny", shape=(32, 32, 1), **options):
    return medkeras.models.create(name, input_shape=shape, num_classes=2, class_names=NAMES, depth=1, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return make_run(folder, create(), image_size=32)


def write_image(path, shape=(40, 56), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, shape, np.uint8))
    return path


def size_of(path):
    return cv2.imread(str(path)).shape


def test_a_sample_of_the_test_split_is_drawn(run):
    written = explain_run(run.path, samples=3)
    pictures = [p for p in written if p.suffix == ".png" and p.stem != "receptive_fields"]
    assert {*written, run / "explain/written_by_explain.json"} == {*(run / "explain").iterdir()}
    assert len(pictures) == 3 and len(written) == 5
    assert all(size_of(p)[1] > 800 and cv2.imread(str(p)).std() > 10 for p in pictures)
    table = pd.read_csv(run / "explain" / "fixations.csv")
    test = load_data(TrainConfig.from_run(run)).records["test"]
    assert set(table["file"]) <= set(test.table["id"]) and table["file"].nunique() == 3
    assert table["fixation"].tolist() == [1, 2] * 3
    # The stored phantom has 64 pixels, the model's image 32: windows of half the edge are 32 wide.
    for axis in ("row", "column"):
        np.testing.assert_allclose(table[f"{axis}_to"] - table[f"{axis}_from"], 32, atol=0.02)
        assert table[f"{axis}_from"].min() >= -0.5 and table[f"{axis}_to"].max() <= 63.5


@pytest.fixture
def drawn(monkeypatch):
    """What the job asks to be drawn, instead of the drawing; receptive fields are not measured."""
    calls = []
    monkeypatch.setattr(job, "effective_receptive_field", lambda *given, **options: np.ones((4, 4)))
    for name in ("explanation_figure", "receptive_field_figure"):
        monkeypatch.setattr(job, name, lambda *given, **options: calls.append((given, options)) or Figure())
    return calls


@pytest.fixture
def curves(monkeypatch):
    """The curves that the job measures: kind, maps, targets and result."""
    calls = []

    def watch(kind, true):
        def measured(model, images, maps, *, target):
            calls.append((kind, maps, target, true(model, images, maps, target=target)))
            return calls[-1][-1]

        monkeypatch.setattr(job, f"{kind}_curve", measured)

    for kind in ("deletion", "insertion"):
        watch(kind, getattr(job, f"{kind}_curve"))
    return calls


def test_one_method_is_drawn_and_measured(tmp_path, curves):
    told, out = io.StringIO(), tmp_path / "maps"
    run = make_run(tmp_path / "run", create("vit_tiny", units=16, heads=2, hidden=16), image_size=32)
    options = {"samples": 2, "method": "gradient_rollout", "target": "lesion"}
    written = explain_run(run.path, (), out, faithfulness=True, console=Console(file=told, width=400), **options)
    assert [p.suffix for p in written] == [".png", ".png", ".json"]
    assert {*written, out / "written_by_explain.json"} == {*out.iterdir()}
    found = json.loads((out / "faithfulness.json").read_text())
    assert (found["images"], found["method"], found["target"]) == (2, "gradient_rollout", "lesion")
    assert [kind for kind, *_ in curves] == ["deletion", "insertion"] * 2
    for (kind, maps, target, curve), of in zip(curves, ("map", "map", "random", "random"), strict=True):
        assert found[f"{kind}_{of}"] == pytest.approx(curve.areas.mean(), abs=1e-4) and list(target) == [1, 1]
        np.testing.assert_array_equal(np.sort(maps.reshape(2, -1)), np.sort(curves[0][1].reshape(2, -1)))
    assert not np.array_equal(curves[0][1], curves[2][1])
    assert len(found["similarity"]) == 4 and f"{found['deletion_map']:.3f}" in told.getvalue()


def test_a_method_must_apply_and_its_target_exist(run):
    with pytest.raises(ValueError, match="Received: method='attention_rollout'"):
        explain_run(run.path, method="attention_rollout")
    with pytest.raises(ValueError, match="healthy, lesion, .* Received: target='cancer'"):
        explain_run(run.path, method="layer_cam", target="cancer")
    with pytest.raises(ValueError, match="Received: method=None, target='lesion'"):
        explain_run(run.path, target="lesion")
    with pytest.raises(ValueError, match="of no class. Received: method='attention', target='lesion'"):
        explain_run(run.path, method="attention", target="lesion")
    with pytest.raises(ValueError, match="without labels; name one of healthy, lesion. Received: target='label'"):
        explain_run(run.path, ["a.png"], method="layer_cam", target="label")


def test_each_map_is_of_the_class_that_is_asked_for(run, tmp_path, drawn):
    for target, expected in (("1", [1] * 4), ("healthy", [0] * 4), ("label", None)):
        drawn.clear()
        explain_run(run.path, (), tmp_path, samples=4, method="layer_cam", target=target)
        own = [NAMES.index(options["labels"][0]) for _, options in drawn]
        assert set(own) == {0, 1} and [int(told.targets[0]) for (told,), _ in drawn] == (expected or own)


def test_what_an_earlier_call_drew_does_not_stay(run, tmp_path, drawn):
    (tmp_path / "009-mine.png").write_text("mine")
    explain_run(run.path, (), tmp_path, samples=5)
    assert (tmp_path / "fixations.csv").is_file() and (tmp_path / "receptive_fields.png").is_file()
    written = explain_run(run.path, (), tmp_path, samples=2, method="layer_cam", seed=1)
    assert {*written, tmp_path / "009-mine.png", tmp_path / "written_by_explain.json"} == {*tmp_path.iterdir()}
    assert (tmp_path / "009-mine.png").read_text() == "mine"


def test_sampled_images_carry_their_truth(run, tmp_path, drawn):
    explain_run(run.path, (), tmp_path, samples=30)
    test = load_data(TrainConfig.from_run(run)).records["test"]
    assert len(drawn) == len(test) + 1 < 31
    for i, ((explanation,), options) in enumerate(drawn[:-1]):
        np.testing.assert_array_equal(explanation.images[0], fit(test.read(i), (32, 32, 1)))
        assert (options["names"], options["labels"]) == ([test.table["id"][i]], [NAMES[test.labels[i]]])
        assert options["masks"][0].any() == test.read_mask(i).any()
        assert options["masks"][0].sum() == pytest.approx(test.read_mask(i).sum() / 4, rel=0.3, abs=2)


def test_the_seed_chooses_the_sample(run, tmp_path, drawn):
    names = [
        [p.name for p in explain_run(run.path, (), tmp_path / str(i), samples=3, seed=seed)]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert names[0] == names[1] != names[2]


def test_files_and_folders_are_drawn_in_their_own_pixels(run, tmp_path):
    first = write_image(tmp_path / "a" / "scan one.png")
    write_image(tmp_path / "b" / "deep" / "x.png", seed=1)
    written = explain_run(run.path, [first, tmp_path / "b"], tmp_path / "maps")
    assert {p.name for p in written} == {
        "001-scan_one.png",
        "002-x.png",
        "fixations.csv",
        "receptive_fields.png",
    }
    table = pd.read_csv(tmp_path / "maps" / "fixations.csv")
    assert table["file"].iloc[0] == str(first)
    loaded = keras.models.load_model(run / "model.keras")
    image = fit(cv2.imread(str(first), cv2.IMREAD_UNCHANGED), loaded.image_shape)
    looked = fixations(loaded, image[None])
    expected = (looked.places[0] + 0.5) * np.array([40, 56]) / 32 - 0.5
    np.testing.assert_allclose(table.loc[:1, ["row", "column"]], expected, atol=0.01)
    # A window's edges share the scale of its centre, and lie half its width away.
    for axis, width in (("row", 20), ("column", 28)):
        np.testing.assert_allclose(table[axis] - table[f"{axis}_from"], width / 2, atol=0.02)
        np.testing.assert_allclose(table[f"{axis}_to"] - table[axis], width / 2, atol=0.02)


def test_proportions_are_those_of_the_file_or_of_the_option(run, tmp_path, drawn, capsys):
    shape = (40, 56)
    write_image(tmp_path / "a.png", shape)
    write_dicom(tmp_path / "b.dcm", np.zeros(shape, np.uint16), PixelSpacing=[0.5, 0.25])
    words = ["explain", str(run.path), str(tmp_path / "a.png"), str(tmp_path / "b.dcm"), "--out", str(tmp_path / "out")]
    assert main([*words, "--opacity", "0.3", "--contour", "0.5"]) == 0
    assert main([*words, "--pixel-spacing", "3,1"]) == 0
    found = [options["appearance"] for _, options in drawn if "appearance" in options]
    assert [(look.opacity, look.contours) for look in found] == [(0.3, (0.5,))] * 2 + [(0.8, ())] * 2
    # The model sees 32 x 32 pixels.
    wanted = [(1.25, 1.75), (1.25 / 2, 1.75 / 4), (3.75, 1.75), (3.75, 1.75)]
    np.testing.assert_allclose([look.spacing for look in found], wanted)
    capsys.readouterr()
    assert main([*words, "--pixel-spacing", "3,1,1"]) == 2 and "each of 2 axes" in capsys.readouterr().err
    assert main([*words, "--pixel-spacing", "wide"]) == 2 and "--pixel-spacing must be" in capsys.readouterr().err


def test_a_volume_has_three_axes(tmp_path):
    model = create("focusnet3d_tiny", (16, 16, 16, 1))
    run = make_run(tmp_path / "run", model, image_size=16)
    np.savez(tmp_path / "scans.npz", images=np.random.default_rng(0).uniform(size=(1, 16, 20, 24)))
    written = explain_run(run.path, [tmp_path / "scans.npz"], tmp_path / "maps")
    table = pd.read_csv(tmp_path / "maps" / "fixations.csv")
    widths = [table[f"{axis}_to"] - table[f"{axis}_from"] for axis in ("depth", "row", "column")]
    np.testing.assert_allclose(np.transpose(widths), [[8, 10, 12]] * 2, atol=0.02)
    assert size_of(written[0])[0] > 500


@pytest.mark.parametrize("kind", ["repaired", "without explain points"])
def test_models_that_lack_something_get_the_rest(tmp_path, kind):
    model = create(compat="repaired") if kind == "repaired" else TinyNet((32, 32, 1), num_classes=2)
    run, image = make_run(tmp_path / "run", model), write_image(tmp_path / "a.png")
    console = Console(record=True, width=200, file=io.StringIO())
    written = {p.name for p in explain_run(run.path, [image], tmp_path / "maps", console=console)}
    told = console.export_text()
    if kind == "repaired":
        assert written == {"001-a.png", "fixations.csv", "receptive_fields.png"}
        assert "has no priority: not drawn" in told
    else:
        assert written == {"001-a.png"}
        assert "has no fixations, priority, features, magno, parvo, konio: not drawn" in told


def test_a_bad_file_is_named_and_nothing_is_written(run, tmp_path):
    good, bad = write_image(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:200])
    with pytest.raises(ValueError, match="b.png") as error:
        explain_run(run.path, [good, bad], tmp_path / "maps")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "maps").exists()


def test_wrong_arguments_state_the_rule(run, tmp_path):
    image = write_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="Received: samples=0"):
        explain_run(run.path, samples=0)
    with pytest.raises(ValueError, match="Received: both, data='phantom'"):
        explain_run(run.path, [image], data="phantom")
    with pytest.raises(ValueError, match="Received: .*bright"):
        explain_run(run.path, (), tmp_path / "out", data="phantom:multilabel")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        explain_run(run.path, ["nowhere.png"])
    with pytest.raises(FileNotFoundError, match="no-run"):
        explain_run(tmp_path / "no-run")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError):
        explain_run(run.path, [image], blocked)
    assert blocked.read_text() == ""


def test_changed_data_are_refused(run, tmp_path):
    other = make_run(tmp_path / "run", create(), image_size=32)
    other.write_text("splits.csv", "id,patient,split,label\n")
    with pytest.raises(ValueError, match="must stay as in"):
        explain_run(other.path)


def test_real_ultrasound_with_its_lesions(real_data, tmp_path):
    folder = real_data / "busi" / "images"
    files = sorted(folder.rglob("benign*.png"))[:2]
    assert files
    run = make_run(tmp_path / "run", create(shape=(64, 64, 1)))
    written = explain_run(run.path, files, tmp_path / "maps")
    assert len(written) == 4
    table = pd.read_csv(tmp_path / "maps" / "fixations.csv")
    for file, rows in table.groupby("file"):
        height, width = size_of(file)[:2]
        assert rows["row_to"].max() <= height and rows["column_to"].max() <= width
        np.testing.assert_allclose(rows["column_to"] - rows["column_from"], width / 2, atol=0.02)
