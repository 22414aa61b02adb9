"""The scripts as chapters: cell by cell in a real Jupyter kernel, and what holds for the cells of every script.

The kernel needs jupytext, nbclient and ipykernel, which CI installs; without them these tests are skipped.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import statistics
import string
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, SCRIPTS
from test_scripts import FIGURES

SHOWS_TIMES = {"02": "3", "04": "6", "05": "1"}  # sections that print clock times, which differ from run to run
LABS = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name[:2])


def notebook_of(script: Path):
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package)
    return pytest.importorskip("jupytext").read(script)


def run_cells(notebook, cells):
    """Execute the cells in one kernel, as a notebook beside the scripts; they are changed in place."""
    from nbclient import NotebookClient

    notebook.cells = cells
    resources = {"metadata": {"path": str(ROOT / "week6")}}
    # coalesced: whether two prints arrive as one output or two is a matter of timing
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources, coalesce_streams=True)
    client.execute()


def copy_of(cell):
    return type(cell)(cell | {"outputs": [], "id": os.urandom(4).hex()})


def text_of(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pictures_of(cell) -> list[str]:
    return [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]


def sections_of(notebook) -> dict[str, list]:
    """The cells by the number of their section; "" are those before the first, "end" the last cell."""
    sections, current = {"": []}, ""
    for cell in notebook.cells:
        heading = re.search(r"^## (\d+)\. ", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if heading:
            current = heading.group(1)
        sections.setdefault(current, []).append(cell)
    sections["end"] = [sections[current].pop()]
    return sections


def builds_on(cells) -> list[str]:
    """The sections that the prose of these cells says they build on."""
    prose = " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())
    return [n for phrase in re.findall(r"builds on sections? ([\d, and]+)", prose) for n in re.findall(r"\d", phrase)]


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setenv("LAB_FLAGS", "--fast")
    before = git_status()
    yield
    assert git_status() == before  # cells write nothing


def git_status() -> list[str]:
    """What is new or changed; caches may come from a test at the same time."""
    status = subprocess.run(["git", "status", "--porcelain", "--ignored"], cwd=ROOT, capture_output=True, text=True).stdout
    return [line for line in status.splitlines() if not line.endswith(("__pycache__/", ".pytest_cache/"))]


@LABS
def test_every_cell_shows_what_it_found_and_can_be_run_again(script, fast):
    notebook = notebook_of(script)
    cells = [copy_of(cell) for cell in notebook.cells if cell.cell_type == "code" for _ in range(2)]
    sections = {number: len([c for c in part if c.cell_type == "code"]) for number, part in sections_of(notebook).items()}
    run_cells(notebook, cells)
    first, again = cells[0::2], cells[1::2]
    assert "in cells nothing was written" in text_of(first[-1]).lower()
    pictures = sum(len(pictures_of(cell)) for cell in first)
    assert pictures == len(FIGURES[script.name[:2]])
    for number, count in sections.items():
        part, first = first[:count], first[count:]
        repeated, again = again[:count], again[count:]
        assert any(text_of(cell).strip() for cell in part), f"section {number} says nothing"
        for one, two in zip(part, repeated, strict=True):
            assert len(one.outputs) == len(two.outputs), one.source
            if number != SHOWS_TIMES.get(script.name[:2]):
                assert text_of(one) == text_of(two) and pictures_of(one) == pictures_of(two), one.source
    assert all(output.get("name") != "stderr" for cell in cells for output in cell.outputs)


@LABS
def test_a_section_runs_without_those_before_it_unless_it_says_so(script, fast):
    """Last section first, in one kernel: whatever one needs of an earlier section is missing then."""
    notebook = notebook_of(script)
    sections = sections_of(notebook)
    start, *numbers = [number for number in sections if number != "end"]
    order = [start]

    def add(number: str) -> None:
        for needed in builds_on(sections[number]):
            add(needed)
        order.extend([number] if number not in order else [])

    for number in reversed(numbers):
        add(number)
    run_cells(notebook, [copy_of(cell) for number in order for cell in sections[number] if cell.cell_type == "code"])


def test_a_mistake_in_lab_flags_names_itself(monkeypatch):
    notebook = notebook_of(SCRIPTS[0])
    from nbclient.exceptions import CellExecutionError

    monkeypatch.setenv("LAB_FLAGS", "--fats")
    with pytest.raises(CellExecutionError, match="LAB_FLAGS: unrecognized arguments: --fats"):
        run_cells(notebook, [copy_of(cell) for cell in notebook.cells[:2]])


# --- what can be seen without running anything ------------------------------------------------------------------------


def cells_of(script: Path) -> list[list[str]]:
    """The lines of code of each code cell: neither blank nor a comment."""
    cells = re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    code = [cell.splitlines()[1:] for cell in cells if not cell.startswith(" [markdown]")]
    return [[line for line in lines if line.strip() and not line.lstrip().startswith("#")] for lines in code]


@LABS
def test_cells_are_small(script):
    sizes = [len(lines) for lines in cells_of(script)]
    assert max(sizes) <= 50 and statistics.median(sizes) < 25


def top_level_names(node: ast.AST) -> set[str]:
    """Names that a statement sets in its own scope: not those inside functions, classes and comprehensions."""
    found, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.ListComp | ast.DictComp | ast.GeneratorExp):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def free_names(function: ast.AST) -> set[str]:
    """Names that a function or class reads and does not set itself."""
    bound = {
        a.arg for f in ast.walk(function) if isinstance(f, ast.arguments) for a in (*f.args, *f.kwonlyargs, *f.posonlyargs)
    }
    bound |= {x.id for x in ast.walk(function) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
    bound |= {x.name for x in ast.walk(function) if isinstance(x, ast.FunctionDef | ast.ClassDef)}
    return {x.id for x in ast.walk(function) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Load)} - bound


def cell_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names that exist after an import, and those that only a running cell sets."""
    running = [node for node in tree.body if isinstance(node, ast.If)]
    always = set().union(*(top_level_names(node) for node in tree.body if node not in running))
    return always, set().union(*(top_level_names(node) for node in running), {"lab"}) - (always - {"lab"})


def silent_globals(source: str) -> set[str]:
    """Names that functions and classes of a script read although only a running cell sets them."""
    tree = ast.parse(source)
    always, running = cell_names(tree)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    read = set().union(*map(free_names, functions)) if functions else set()
    return (read & running) | (read - always - running - set(dir(builtins)) - {"__file__"})


@LABS
def test_no_function_reads_a_name_that_only_a_cell_sets(script):
    assert silent_globals(script.read_text(encoding="utf-8")) == set()


def test_a_silent_global_is_found():
    assert silent_globals("lab = 1\nif lab:\n    n = 3\ndef f(m):\n    return m + n\n") == {"n"}
    assert silent_globals("n = 3\ndef f(m):\n    return m + n\n") == set()
    assert silent_globals("lab = 1\ndef f():\n    lab.say()\n") == {"lab"}


def keys_in_sentences(tree: ast.Module) -> list[tuple[str, set[str]]]:
    """For each {name} in a text given to lab.say: the name, and the keyword arguments beside it."""
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "lab.say":
            texts = [x.value for x in ast.walk(call) if isinstance(x, ast.Constant) and isinstance(x.value, str)]
            inside_f_strings = {id(v) for x in ast.walk(call) if isinstance(x, ast.JoinedStr) for v in x.values}
            plain = [x.value for x in ast.walk(call.args[0]) if isinstance(x, ast.Constant) and id(x) not in inside_f_strings]
            given = {keyword.arg for keyword in call.keywords}
            for text in plain if texts else ():
                found += [(name, given) for _, name, _, _ in string.Formatter().parse(str(text)) if name]
    return found


@LABS
def test_every_key_in_a_sentence_exists(script):
    keys = keys_in_sentences(ast.parse(script.read_text(encoding="utf-8")))
    recorded = json.loads((ROOT / "week6" / "outputs" / f"{script.name[:2]}_results.json").read_text())["results"]
    names = [(name.partition("@")[0], given) for name, given in keys]  # {key@median} is a statistic of the study
    assert keys and [name for name, given in names if name not in recorded and name not in given] == []
