"""A stage says what it does, and that it still does it, where there is no terminal."""

import io
import time

import pytest
from rich.console import Console

from pipelines.runtime import console as console_module
from pipelines.runtime.console import PlainConsole
from pipelines.runtime.progress import bar


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(console_module, "SILENCE", 0.08)
    return PlainConsole(file=io.StringIO())


def lines(console):
    return console.file.getvalue().splitlines()


def test_a_stage_has_a_line_and_a_long_one_more(impatient):
    with impatient.status("Converting [x] to LiteRT"):
        time.sleep(0.5)
    first, *more = lines(impatient)
    assert first == "Converting [x] to LiteRT"
    assert 2 <= len(more) <= 7 and all(line == "Converting [x] to LiteRT: 0 s so far" for line in more)


def test_a_short_stage_has_no_more_than_its_line(impatient):
    with impatient.status("Loading"):
        pass
    time.sleep(0.2)
    assert lines(impatient) == ["Loading"]


def test_whoever_speaks_is_not_interrupted(impatient):
    with impatient.status("Training"):
        for epoch in range(20):
            time.sleep(0.02)
            impatient.print(f"epoch {epoch}")
    assert not [line for line in lines(impatient) if "so far" in line]


def test_the_inner_stage_speaks_and_then_the_outer_one_again(impatient):
    with impatient.status("outer"):
        with impatient.status("inner"):
            time.sleep(0.3)
        time.sleep(0.3)
    said = [line.partition(":")[0] for line in lines(impatient) if "so far" in line]
    assert said == sorted(said) and set(said) == {"inner", "outer"}


def test_a_stage_that_fails_ends(impatient):
    with pytest.raises(ValueError), impatient.status("Loading"):
        raise ValueError
    time.sleep(0.2)
    assert lines(impatient) == ["Loading"]


def test_a_bar_says_how_far_it_is(impatient):
    with bar(impatient) as moving:
        row = moving.add_task("Predicting scans", total=40)
        moving.advance(row, 30)
        time.sleep(0.3)
    assert set(lines(impatient)) == {"Predicting scans: 30 of 40"}


def test_a_quiet_console_of_a_job_stays_quiet(monkeypatch):
    monkeypatch.setattr(console_module, "SILENCE", 0.02)
    console = Console(quiet=True, file=io.StringIO())
    with bar(console) as moving, console.status("Loading"):
        moving.add_task("Reading", total=1)
        time.sleep(0.1)
    assert console.file.getvalue() == ""


def test_in_a_terminal_a_stage_leaves_no_line_behind():
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=40)
    with console.status("Loading [b]"):
        time.sleep(0.2)
    assert "Loading [b]" in console.file.getvalue() and "so far" not in console.file.getvalue()
