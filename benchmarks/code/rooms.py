"""The rooms of both packages: files, lines, levels of imports, circles, and the longest functions and files.

    python benchmarks/code/rooms.py
    python benchmarks/code/rooms.py --root ../another/checkout

A room is a folder or file directly below `medkeras` or `pipelines`. Its level is 1 + the highest level of what it
imports, lazy imports inside functions included; rooms that import one another stand on one level, as a circle.
Needs import-linter (the extra `[test]`), which reads the imports as text.
"""

import argparse
import ast
import collections
import os
import pathlib
import sys

import grimp
from rich.console import Console
from rich.table import Table

PACKAGES = ("medkeras", "pipelines")
LONGEST = 10


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports_between(package: str) -> dict[str, set[str]]:
    """Which rooms each room of a package imports."""
    graph = grimp.build_graph(package, cache_dir=None)
    found: dict[str, set[str]] = {room_of(module): set() for module in graph.modules if module != package}
    for module in graph.modules - {package}:
        for imported in graph.find_modules_directly_imported_by(module):
            if imported != package and room_of(imported) != room_of(module):
                found[room_of(module)].add(room_of(imported))
    return found


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    seen, left = set(), [start]
    while left:
        new = edges[left.pop()] - seen
        seen |= new
        left += new
    return seen


def levels_of(edges: dict[str, set[str]]) -> tuple[dict[str, int], list[list[str]]]:
    """The level of each room, and the circles."""
    below = {room: reachable(edges, room) for room in edges}
    circle = {room: frozenset({room} | {other for other in below[room] if room in below[other]}) for room in edges}
    levels: dict[str, int] = {}
    for room in sorted(edges, key=lambda room: len(below[room] | circle[room])):
        levels[room] = 1 + max((levels[other] for other in below[room] - circle[room]), default=0)
    return levels, sorted(sorted(found) for found in set(circle.values()) if len(found) > 1)


def files_of(root: pathlib.Path, folder: str) -> dict[str, int]:
    return {
        str(path.relative_to(root)): len(path.read_text().splitlines())
        for path in sorted((root / folder).rglob("*.py"))
    }


def functions_of(root: pathlib.Path, files: dict[str, int]) -> list[tuple[int, str]]:
    """The lines of each function, docstring and decorators included."""
    found = []
    for file in files:
        for node in ast.walk(ast.parse((root / file).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                found.append((node.end_lineno - first + 1, f"{file}:{node.name}"))
    return sorted(found, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).parents[2])
    root = parser.parse_args().root.resolve()
    sys.path.insert(0, str(root))
    os.chdir(root)
    console, source = Console(), {}
    for package in PACKAGES:
        files = files_of(root, package)
        source |= files
        lines, counts = collections.Counter(), collections.Counter()
        for file, length in files.items():
            room = room_of(file.removesuffix(".py").replace("/", "."))
            lines[room] += length
            counts[room] += 1
        edges = imports_between(package)
        levels, circles = levels_of(edges)
        table = Table("level", "room", "files", "lines", "imports", title=package)
        for room in sorted(levels, key=lambda room: (-levels[room], room)):
            names = ", ".join(sorted(each.split(".")[1] for each in edges[room]))
            table.add_row(str(levels[room]), room, str(counts[room]), str(lines[room]), names)
        console.print(table)
        console.print(f"{sum(files.values())} lines in {len(files)} files, circles: {circles or 'none'}")
    tests = sum(files_of(root, "tests").values())
    total = sum(source.values())
    console.print(f"source {total} lines, tests {tests} lines, ratio {tests / total:.2f}")
    console.print("longest files", sorted(((n, f) for f, n in source.items()), reverse=True)[:LONGEST])
    console.print("longest functions", functions_of(root, source)[:LONGEST])


if __name__ == "__main__":
    main()
