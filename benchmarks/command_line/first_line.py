"""How long each command says nothing: runs it as a process and times every line that it prints.

    python benchmarks/command_line/first_line.py --runs runs/silence --only train evaluate

Trains a small model on phantom images in a folder of its own, then runs the other commands on that run, each as a
person without a terminal would see it. Prints per command the seconds to the first line, the longest time without a
line (the beginning and the end count), how many lines came, and how many of them are not ours (of TensorFlow, on
standard error).
"""

import argparse
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time

# What TensorFlow, XLA and the LiteRT runtime write by themselves.
FOREIGN = re.compile(
    r"^(\d{4}-\d\d-\d\d .*|[IWEF]\d{4} .*|WARNING: All log messages.*|INFO: .*|.*(cuInit|XNNPACK|absl).*)$"
)


def commands(folder: pathlib.Path, epochs: int) -> dict[str, list[str]]:
    run, image = str(folder / "run"), str(folder / "scan.png")
    train = ["train", "--data", "phantom", "--model", "focusnet2d", "--run", run, "--image-size", "48"]
    return {
        "help": ["--help"],
        "models": ["models"],
        "recipes": ["recipes"],
        "data": ["data", "phantom", "--out", str(folder / "sheet.png")],
        "train": [*train, "--source-option", "images=240", "--epochs", str(epochs)],
        "evaluate": ["evaluate", run],
        "predict": ["predict", run, image, "--out", str(folder / "predictions.csv")],
        "explain": ["explain", run, "--samples", "4", "--out", str(folder / "maps")],
        "localize": ["localize", run, "--samples", "4"],
        "enhance": ["enhance", run, image, "--upscaler", "bicubic", "--smallest", "16", "--out", str(folder / "large")],
        "report": ["report", run],
        "export": ["export", run, "--to", str(folder / "saved_models")],
    }


def timed(program: list[str], words: list[str]) -> tuple[int, float, list[tuple[float, str, bool]]]:
    """Returns the exit code, the seconds, and when each line came, what it says and whether it is an error's."""
    start, lines = time.monotonic(), queue.Queue()
    process = subprocess.Popen([*program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)

    def read(stream, is_error: bool) -> None:
        for line in stream:
            lines.put((time.monotonic() - start, line.rstrip(), is_error))

    readers = [threading.Thread(target=read, args=pair) for pair in ((process.stdout, False), (process.stderr, True))]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return process.wait(), time.monotonic() - start, sorted(lines.queue)


def report(name: str, program: list[str], words: list[str], *, shows: bool) -> None:
    code, seconds, lines = timed(program, words)
    times = [0.0, *(when for when, _, _ in lines), seconds]
    silence, since = max((b - a, a) for a, b in zip(times, times[1:], strict=False))
    foreign = sum(bool(FOREIGN.match(line)) for _, line, _ in lines)
    print(
        f"{name:10} first line {times[1]:5.1f} s  longest silence {silence:5.1f} s (from {since:.1f} s)  "
        f"{len(lines):4d} lines, {foreign} not ours  in {seconds:.1f} s, exit code {code}",
        flush=True,
    )
    if shows or code:
        for when, line, is_error in lines:
            print(f"    {when:6.1f} {'!' if is_error else ' '} {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, required=True, help="Folder of the phantom run and its results.")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=(), help="Some commands; all by default.")
    parser.add_argument("--program", nargs="+", help="What to time instead of `python -m pipelines`.")
    parser.add_argument("--lines", action="store_true", help="Print the lines too.")
    asked = parser.parse_args()
    asked.runs.mkdir(parents=True, exist_ok=True)
    if not (asked.runs / "scan.png").is_file():
        import cv2
        import numpy as np

        cv2.imwrite(str(asked.runs / "scan.png"), np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    for name, words in commands(asked.runs, asked.epochs).items():
        if not asked.only or name in asked.only:
            report(name, asked.program or [sys.executable, "-m", "pipelines"], words, shows=asked.lines)


if __name__ == "__main__":
    main()
