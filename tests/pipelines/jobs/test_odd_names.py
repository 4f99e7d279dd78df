"""Names of classes and files that mean something to a console, to a figure or to HTML are printed as they are."""

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from medkeras.explain import maps_figure
from pipelines.cli.main import main
from pipelines.io.figure_files import save_figure
from pipelines.runtime.console import PlainConsole
from pipelines.runtime.progress import bar
from pipelines.training.config import TrainConfig
from spot_net import SpotNet
from untrained_run import write_run

NAMES = ("$\\frac$ [/red] :cat:", "<script>x</script>")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("[odd] <i>")
    rng, rows = np.random.default_rng(0), []
    for i in range(12):
        image, mask = f"<b> $x^{{$ [bold] {i}.png", f"mask {i}.png"
        cv2.imwrite(str(folder / image), rng.integers(0, 255, (16, 16), np.uint8))
        cv2.imwrite(str(folder / mask), np.pad(np.full((6, 6), 255, np.uint8), 5))
        rows.append({"image": image, "mask": mask, "label": NAMES[i % 2]})
    pd.DataFrame(rows).to_csv(folder / "[t].csv", index=False)
    columns = {"label_columns": "label", "path_column": "image", "mask_column": "mask"}
    model = SpotNet((16, 16, 1), num_classes=2, class_names=NAMES)
    config = {"data": str(folder / "[t].csv"), "source_options": columns, "image_size": 16}
    return write_run(TrainConfig(model="focusnet2d_tiny", run=str(folder / "run [/b]"), **config), model)


def test_commands_take_them(run, capsys):
    words = [str(run.path), "--samples", "1"]
    assert main(["localize", *words, "--threshold", "0.5", "--target", NAMES[0]]) == 0
    assert f"pictures in {run.path}/localization_of_" in capsys.readouterr().out
    folder = run / "localization_of__frac__red_cat_"
    assert [path.suffix for path in sorted(folder.glob("*.png"))] == [".png"]
    assert main(["explain", *words, "--method", "grad_cam", "--target", NAMES[1]]) == 0
    assert main(["localize", *words, "--target", "[/b]"]) == 2
    assert "Received: target='[/b]'" in capsys.readouterr().err


def test_a_console_and_its_bar_print_brackets(capsys):
    console = PlainConsole(width=80)
    console.print("[/b] :cat: [bold]x[/bold]")
    with console.status("Loading [/b]"):
        pass
    assert capsys.readouterr().out == "[/b] :cat: [bold]x[/bold]\nLoading [/b]\n"
    terminal = PlainConsole(width=80, force_terminal=True)
    with bar(terminal) as moving:
        moving.add_task("Looking at [/b]", total=1)
    assert "Looking at [/b]" in capsys.readouterr().out


def test_a_dollar_begins_no_formula_but_powers_of_ten_stay(tmp_path):
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    axes.plot([1, 1000], [1, 1000], label="$\\frac$")
    axes.legend()
    axes.set(yscale="log", title="$x^{$", xlabel="$\\nothing$")
    axes.set_xticks([1, 1000], ["$\\frac$", "$_$"])
    save_figure(figure, tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).std() > 5
    assert all(label.get_parse_math() for label in axes.get_yticklabels(which="both"))
    names = maps_figure(np.ones((1, 8, 8, 1)), {"$\\frac$": np.ones((1, 8, 8))}, names=["$x^{$"])
    names.savefig(tmp_path / "b.png")
