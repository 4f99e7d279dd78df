"""Recipes on the command line: listed, trained on prepared phantom downloads, overridden, and refused in one line."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from medkeras.models import CAME
from mini_backbone import OPTIONS, mini_backbone  # noqa: F401  registers it for each test
from paths import ROOT
from phantom_downloads import DOWNLOADS, as_folder, as_zip
from pipelines import recipes
from pipelines.cli.main import main
from pipelines.io.run_folder import RunFolder
from pipelines.recipes.prepare import prepare
from pipelines.training.build import build_training
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data
from pipelines.training.optimizer import DecoupledAdam
from tiny_model import tiny_models  # noqa: F401  registers its models for each test

ATTENTION = ("aptos2019", "ddr", "messidor2")
FUSION = {"widths": [8, 8, 8, 8], "memory": 4}
HEMF = FUSION | {"local_depths": [1, 1, 1, 1], "global_depths": [1, 1, 1, 1], "heads": 2, "setting": "S1"}
CAME_OPTIONS = FUSION | {"head_size": 4}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """From the name of a recipe to a folder prepared for it, made once."""
    root, made = tmp_path_factory.mktemp("prepared"), {}

    def prepared_for(name, split=None):
        key = f"{name}-{split}"
        if key not in made:
            prepare(name, as_zip(DOWNLOADS[name](), root / f"{key}.zip"), root / key, split=split)
            made[key] = root / key
        return made[key]

    return prepared_for


def words(*parts):
    return [str(part) for part in parts]


def model_words(model, options):
    pairs = [word for key, value in options.items() for word in ("--model-option", f"{key}={json.dumps(value)}")]
    return ["--model", model, *pairs]


# One of each family as it is, but small; for the others a model that trains in a second.
TINY = ["--model", "tiny_net", "--training", "plain", "--image-size", "16", "--augment", "none"]
SMALL = dict.fromkeys(DOWNLOADS, TINY) | {
    "aptos2019": [*model_words("dualattendmed_tiny", OPTIONS), "--image-size", "16"],
    "isic2018": [*model_words("hemf_tiny", HEMF), "--image-size", "32"],
}


# Of the recipes of DCAT, which have one training: images of each split.
READ_ONLY = {
    "covid19_xray": {"train": 16, "val": 4, "test": 4},
    "tuberculosis_xray": {"train": 13, "val": 2, "test": 3},
    "oct2017": {"train": 24, "val": 4, "test": 8},
}


@pytest.mark.parametrize("name", [name for name in DOWNLOADS if name not in (*READ_ONLY, "chexpert")])
def test_a_prepared_download_is_trained_by_its_recipe_and_evaluated(name, prepared, tmp_path):
    data, run, recipe = prepared(name), tmp_path / "run", recipes.load(name)
    more = ["--epochs", "1", "--batch-size", "8", *(["--pretrained", "none"] if "pretrained" in recipe.train else [])]
    assert main(words("train", "--recipe", name, "--data", data, "--run", run, *SMALL[name], *more)) == 0
    config = TrainConfig.from_run(RunFolder(run))
    own = {"model", "model_options", "image_size", "epochs", "batch_size", "pretrained"}
    own |= {"training", "training_options", "augment"} if SMALL[name] is TINY else set()
    for field, value in recipe.train.items():
        if field not in own:
            value = tuple(value) if isinstance(value, list) else value
            assert getattr(config, field) == value or field.endswith("preprocess"), field
    assert config.recipe == name and config.data == str((data / "index.csv").resolve())
    splits, index = pd.read_csv(run / "splits.csv", dtype=str), pd.read_csv(data / "index.csv", dtype=str)
    assert set(splits["id"]) == set(index["path"])
    if "patient" in index:
        assert splits.groupby("patient")["split"].nunique().max() == 1
    if "split" in index:
        given = index.set_index("path")["split"].loc[splits["id"]].to_numpy()
        # Where the download has no validation images, they are taken from train.
        taken = (splits["split"] == "val") & ("val" not in given)
        assert (splits["split"] == given)[~taken].all() and (given[taken] == "train").all()
    if name == "kvasir":
        assert splits["split"].value_counts().to_dict() == {"test": 24, "train": 16, "val": 8}

    assert main(words("evaluate", run)) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["count"] == (splits["split"] == "test").sum()
    assert {"accuracy", "mcc", "kappa", "cohen_kappa", "macro", "weighted", "confusion_matrix"} <= set(metrics)
    if name in ATTENTION:
        assert metrics["task"] == "ordinal" and metrics["class_names"][0] == "no DR"
    for figure in ("roc", "confusion_matrix"):
        assert (run / f"figures/{figure}.png").stat().st_size > 1000


def test_the_baseline_of_hemf_is_trained_by_the_same_recipe(seen, prepared):
    more = [*model_words("came_tiny", CAME_OPTIONS), "--image-size", "32", "--batch-size", "8"]
    config = resolved(seen, "--recipe", "covid19_ct", "--data", prepared("covid19_ct"), *more)
    training, model = build_training(config, load_data(config))
    assert type(model) is CAME and type(training.optimizer) is DecoupledAdam
    decays = {v.path: training.optimizer.decays(v) for v in model.trainable_variables}
    for variable in model.trainable_variables:
        assert decays[variable.path] == (len(variable.shape) > 1), variable.path


@pytest.mark.parametrize("name", READ_ONLY)
def test_data_of_the_other_recipes_of_dcat_are_split_as_they_say(name, seen, prepared):
    config = resolved(seen, "--recipe", name, "--data", prepared(name))
    data = load_data(dataclasses.replace(config, image_size=16))
    assert data.info.counts == READ_ONLY[name] and data.info.image_shape == (16, 16, 1) and data.leaks.empty
    assert data.info.class_names == tuple(sorted(recipes.load(name).layout["classes"].values()))
    assert data.info.manifest.groupby("patient")["split"].nunique().max() == 1


@pytest.mark.filterwarnings("ignore:Labels without a positive")
@pytest.mark.parametrize("uncertain", ["ignore", "zeros", "ones"])
def test_chexpert_is_split_by_patient_and_its_uncertain_labels_follow_the_policy(uncertain, seen, prepared):
    words = [] if uncertain == "ignore" else ["--source-option", f"uncertain={uncertain}"]
    config = resolved(seen, "--recipe", "chexpert", "--data", prepared("chexpert"), *words)
    assert (config.model, config.learning_rate, config.weight_decay) == ("vit_b16", 2e-5, 0.01)
    assert (config.image_size, config.channels, config.batch_size, config.epochs) == (224, 3, 64, 20)
    small = {"image_size": 16, "model": "tiny_net", "pretrained": None}
    data = load_data(dataclasses.replace(config, **small))
    assert data.info.class_names == tuple(recipes.load("chexpert").layout["classes"]) and data.leaks.empty
    assert data.info.manifest.groupby("patient")["split"].nunique().max() == 1
    table = pd.read_csv(prepared("chexpert") / "index.csv").set_index("path")[list(data.info.class_names)]
    for split, records in data.records.items():
        stored = table.loc[records.table["id"]].to_numpy()
        np.testing.assert_array_equal(records.labels, np.where(stored == -1, np.nan, stored))
        if split == "train" and uncertain != "ignore":
            policy = float(uncertain == "ones")
            np.testing.assert_array_equal(records.train_labels, np.where(stored == -1, policy, stored))
    training, _ = build_training(dataclasses.replace(config, **small), data)
    assert training.loss.positive_weights is not None and type(training.optimizer) is DecoupledAdam


def test_leaks_of_a_published_split_are_warned_of(seen, prepared):
    config = resolved(seen, "--recipe", "covid19_ct", "--data", prepared("covid19_ct", "published"))
    data = load_data(dataclasses.replace(config, image_size=16, model="tiny_net"))
    assert data.info.counts == {"train": 18, "val": 4, "test": 6}
    assert set(data.leaks["kind"]) == {"patient"} and len(data.leaks) > 3


@pytest.fixture
def seen(monkeypatch):
    """The configurations that would be trained."""
    configs = []
    monkeypatch.setattr("pipelines.jobs.train.train", lambda config, console: configs.append(config))
    return configs


def resolved(seen, *more):
    assert main(words("train", "--run", "r", *more)) == 0
    return seen.pop()


def test_a_recipe_alone_is_the_published_training(seen, prepared):
    config = resolved(seen, "--recipe", "aptos2019", "--data", prepared("aptos2019"))
    assert (config.model, config.pretrained, config.training) == ("dualattendmed", "resnet_152_imagenet", "attention")
    assert (config.optimizer, config.momentum, config.learning_rate, config.weight_decay) == ("sgd", 0.9, 1e-3, 1e-5)
    assert (config.schedule, config.step_epochs, config.step_factor, config.warm_up) == ("step", 10, 0.8, 0)
    assert (config.epochs, config.batch_size, config.augment) == (40, 16, "fundus-published")
    assert (config.preprocess, config.train_preprocess) == (("centre-crop:share=0.875,form=own",), ())
    config = resolved(seen, "--recipe", "isic2018", "--data", prepared("isic2018"))
    assert (config.model, config.optimizer, config.learning_rate, config.weight_decay) == ("hemf", "adamw", 1e-4, 0.01)
    assert (config.warm_up, config.warm_up_start, config.end_factor, config.decay_vectors) == (1, 1e-3, 1e-2, False)
    assert (config.epochs, config.batch_size, config.augment) == (100, 32, "imagenet")
    assert (config.group_duplicates, config.leakage) == (True, "stop")
    config = resolved(seen, "--recipe", "oct2017", "--data", prepared("oct2017"))
    assert (config.model, config.optimizer, config.learning_rate, config.weight_decay) == ("dcat", "adamw", 1e-4, 1e-4)
    assert (config.schedule, config.warm_up, config.epochs, config.patience) == ("cosine", None, 50, 8)
    assert (config.batch_size, config.monitor, config.balance) == (32, "auc", "class-weights")


def test_what_the_user_gives_overrides_and_options_are_joined(seen, prepared, tmp_path):
    data = prepared("aptos2019")
    changes = "--epochs 20 --augment standard --optimizer adamw --no-group-duplicates --train-preprocess clahe"
    changes += " --training-option padding=0.2 --source-option max_pixels=1000000 --model-option reduction=8"
    config = resolved(seen, "--recipe", "aptos2019", "--data", data, *changes.split())
    # 20 epochs and the augmentation are the defaults of the command line, but were given.
    assert (config.epochs, config.augment, config.optimizer, config.batch_size) == (20, "standard", "adamw", 16)
    assert not config.group_duplicates and config.train_preprocess[0].startswith("clahe")
    assert config.training_options == {"crop_threshold": [0.5, 0.5], "drop_threshold": [0.5, 0.5], "padding": 0.2}
    assert config.source_options["max_pixels"] == 1000000 and len(config.source_options["class_names"]) == 5
    assert config.model_options == {"reduction": 8}

    own = yaml.safe_load((recipes.recipe.FOLDER / "aptos2019.yaml").read_text())
    own["train"]["model_options"] = {"attention_maps": 16}
    (tmp_path / "aptos2019.yaml").write_text(yaml.safe_dump(own))
    mine = ["--recipe", tmp_path / "aptos2019.yaml", "--data", data]
    joined = resolved(seen, *mine, "--model-option", "reduction=8")
    assert joined.model_options == {"attention_maps": 16, "reduction": 8}
    assert resolved(seen, *mine, "--model", "dualattendmed").model_options == {"attention_maps": 16}
    other = resolved(seen, *mine, "--model", "dualattendmed_small", "--pretrained", "none")
    assert (other.model, other.model_options, other.pretrained) == ("dualattendmed_small", {}, None)
    plain = resolved(seen, *mine, "--training", "plain")
    assert (plain.training, plain.training_options, plain.model_options) == ("plain", {}, {"attention_maps": 16})


def test_data_with_the_published_split_are_trained_with_leaks_warned_of(seen, prepared):
    data = prepared("covid19_ct", "published")
    config = resolved(seen, "--recipe", "covid19_ct", "--data", data)
    assert (config.leakage, config.group_duplicates) == ("warn", False)
    assert resolved(seen, "--recipe", "covid19_ct", "--data", data, "--leakage", "stop").leakage == "stop"


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_whole_and_shown(name, capsys):
    recipe = recipes.load(name)
    recipe.check_training()
    assert main(["recipes", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        for text in (
            (value,) if isinstance(value, str) else value if field.name in ("published", "caveats", "ours") else ()
        ):
            assert " ".join(text.split()) in shown
    assert f"medkeras data prepare {name} --from" in shown and "learning_rate" in shown
    header = (recipes.recipe.FOLDER / f"{name}.yaml").read_text().splitlines()[:4]
    assert [line.split(":")[0] for line in header[1:]] == ["# Source", "# Expected result", "# Time"]


def test_recipes_are_listed_and_no_tensorflow_is_needed(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in recipes.names())
    assert set(recipes.names()) == set(DOWNLOADS)


def test_prepare_is_a_command_beside_a_source_of_that_name(tmp_path, monkeypatch, capsys):
    sources = []
    monkeypatch.setattr("pipelines.jobs.data.inspect", lambda source, *args, **options: sources.append(source))
    monkeypatch.chdir(tmp_path)
    as_folder(DOWNLOADS["kvasir"](), tmp_path / "d")
    assert main(["data", "./prepare"]) == main(["data", "phantom"]) == 0
    assert sources == ["./prepare", "phantom"]
    assert main(words("data", "prepare", "kvasir", "--from", "d", "--to", "out")) == 0
    printed = capsys.readouterr().out
    assert "kvasir, 48 images" in printed and "medkeras train --recipe kvasir --data out --run RUN" in printed


def fails(capfd, arguments, *named):
    assert main(words(*arguments)) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for name in named:
        assert str(name) in lines[0]


def test_bad_commands_take_one_line(tmp_path, capfd, prepared, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = prepared("kvasir")
    train = ["train", "--run", "r", "--data"]
    fails(capfd, [*train, data, "--recipe", "imagenet"], "one of aptos2019", "imagenet")
    fails(capfd, [*train, data, "--recipe", "none.yaml"], "No such recipe: none.yaml")
    fails(capfd, [*train, data, "--recipe", "isic2018"], "data prepare isic2018", "those of kvasir")
    fails(capfd, [*train, "none", "--recipe", "kvasir"], "No such folder: none")
    fails(capfd, [*train, tmp_path, "--recipe", "kvasir"], "data prepare kvasir", "without prepared.json")
    as_folder({"half/prepared.json": b'{"recipe": "kvasir", "complete": false}'}, tmp_path)
    fails(capfd, [*train, "half", "--recipe", "kvasir"], "not complete")
    fails(capfd, [*train, data], "--model", "--recipe")
    fails(capfd, ["recipes", "imagenet"], "imagenet")
    fails(capfd, ["data", "prepare", "kvasir", "--to", "out"], "--from")
    fails(capfd, ["data", "prepare", "kvasir", "--from", "none", "--to", "out"], "none")
    fails(capfd, ["data", "prepare", "kvasir", "--from", data, "--to", "out", "--split", "published"], "published")
    fails(capfd, ["data", "prepare"], "RECIPE")
    assert not (tmp_path / "r").exists() and not (tmp_path / "out").exists()


def changed(**changes):
    values = yaml.safe_load((recipes.recipe.FOLDER / "kvasir.yaml").read_text())
    for path, value in changes.items():
        part = values
        *above, last = path.split("__")
        for name in above:
            part = part.setdefault(name, {})
        if value is None:
            del part[last]
        else:
            part[last] = value
    return yaml.safe_dump(values)


BAD_YAML = {
    "no YAML": ("a: [", "Cannot read"),
    "a list": ("- a", "it must hold settings. Received: list"),
    "an unknown field": (changed(author="me"), "`author`"),
    "a missing field": (changed(source=None), "it must have `source`"),
    "an unknown field of the training": (
        changed(train__learning_rates=0.1),
        "no `learning_rates`; perhaps `learning_rate`",
    ),
    "a place in the training": (changed(train__run="r"), "cannot know `run`"),
    "a number that YAML takes for a text": (changed(train__learning_rate="1e-3"), "learning_rate='1e-3'"),
    "a truth for a number": (changed(train__epochs=True), "epochs=True"),
    "two shares for three": (
        changed(train__fractions=[0.5, 0.5]),
        "`fractions` is too short. Received: fractions=(0.5, 0.5)",
    ),
    "a value out of range": (changed(train__epochs=0), "epochs=0"),
    "no model": (changed(train__model=None), "without train: model"),
    "an unknown split": (changed(splits=["random"]), "random"),
    "an unknown layout": (changed(layout__kind="pages"), "'pages'"),
    "an unknown option of the layout": (changed(layout__folders="x"), "'folders'"),
    "a layout without its option": (changed(layout__classes=None), "needs the option classes"),
    "a text for a list": (changed(caveats="none"), "caveats='none'"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_a_bad_yaml_is_named(case, tmp_path, capfd, prepared):
    text, named = BAD_YAML[case]
    (tmp_path / "kvasir.yaml").write_text(text)
    train = ["train", "--run", tmp_path / "r", "--data", prepared("kvasir"), "--recipe", tmp_path / "kvasir.yaml"]
    fails(capfd, train, "kvasir", named)
    assert not (tmp_path / "r").exists()


def test_the_package_ships_its_recipes():
    from importlib import resources

    shipped = {path.name for path in resources.files("pipelines.recipes").iterdir() if path.name.endswith(".yaml")}
    assert shipped == {f"{name}.yaml" for name in recipes.names()}
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "recipes/*.yaml" in setup["options.package_data"]["pipelines"].split()
    assert np.all([name == name.lower() for name in shipped])
