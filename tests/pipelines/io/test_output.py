"""Where jobs write: refused before anything is computed, and cleared of their own files alone."""

import json

import pytest

from pipelines.io.output import check_file, check_folder, clear_earlier
from pipelines.io.run_folder import RunFolder
from pipelines.jobs.compare import compare_runs
from pipelines.jobs.enhance import enhance_run
from pipelines.jobs.enhance_experiment import enhance_experiment
from pipelines.jobs.explain import explain_run
from pipelines.jobs.export import export_run
from pipelines.jobs.localize import localize_run
from pipelines.jobs.predict import predict_run
from pipelines.jobs.report import report_run

JOBS = {
    "compare": lambda run, out: compare_runs(run, run, out=out),
    "enhance": lambda run, out: enhance_run(run, ["a.png"], out, upscaler="bicubic"),
    "enhance --experiment": lambda run, out: enhance_experiment(run, out, upscaler="bicubic"),
    "explain": lambda run, out: explain_run(run, (), out),
    "export": export_run,
    "localize": localize_run,
    "predict": lambda run, out: predict_run(run, ["a.png"], out / "table.csv"),
    "report": lambda run, out: report_run(run, out=out),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_file_is_no_place_for_results(tmp_path, job):
    """The run has no model that could be loaded: whatever looked at it first would say so."""
    run = RunFolder(tmp_path / "run")
    run.write_text("config.yaml", "")
    run.write_text("model.keras", "")
    taken = tmp_path / "file"
    taken.write_text("kept")
    for out in (taken, taken / "below"):
        with pytest.raises(NotADirectoryError, match=f"Results go to a folder. Received: out={out}") as error:
            JOBS[job](run.path, out)
        assert "\n" not in str(error.value) and "is a file" in str(error.value)
    assert taken.read_text() == "kept"


def test_a_table_is_not_written_over_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"Results go to a file. Received: out={tmp_path}, which is a folder"):
        check_file(tmp_path)
    assert check_file(tmp_path / "new" / "table.csv").name == "table.csv" and not (tmp_path / "new").exists()
    assert check_folder(tmp_path / "new" / "maps").name == "maps" and check_folder(tmp_path) == tmp_path


def test_only_own_files_are_removed(tmp_path):
    folder, outside = tmp_path / "maps", tmp_path / "outside.png"
    outside.touch()
    clear_earlier(folder, "explain", ["a.png", "b.csv", "gone.png"])
    for name in ("a.png", "b.csv", "mine.png"):
        (folder / name).touch()
    clear_earlier(folder, "localize", ["c.png"])
    assert (folder / "a.png").exists()
    clear_earlier(folder, "explain", ["b.csv"])
    names = {path.name for path in folder.iterdir()}
    assert names == {"mine.png", "written_by_explain.json", "written_by_localize.json"}
    note = folder / "written_by_explain.json"
    note.write_text(json.dumps(["../outside.png", "..", "", str(outside)]))
    clear_earlier(folder, "explain", [])
    assert outside.exists() and (folder / "mine.png").exists()
    note.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="written_by_explain.json: it must be a list"):
        clear_earlier(folder, "explain", [])
