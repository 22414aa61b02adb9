"""The run of a lab. The same file works as a script, cell by cell, as a notebook, and imported.

    lab = Lab(2, globals())                       # in the first cell
    if lab.section("2. Why divide by sqrt(d_k)"): # prints the heading; true in a script and in a cell, false on import
        lab.record("scaling", {"entropy": {"scaled": x}})           # kept as scaling.entropy.scaled
        lab.say("The entropy is {scaling.entropy.scaled:.2f} nats.")  # prints what was kept
        lab.say("In the median start it is {scaling.entropy.scaled@median:.2f}.")  # prints what the study found
        lab.figure(fig, "01_scaling_effect")      # a script writes the file, a cell shows the figure below it
    if lab:                                       # in further cells of the section
    lab.finish()                                  # in the last cell: a script writes its findings

A script takes its flags from the command line. Cells take them from the environment variable LAB_FLAGS (in a first cell:
`%env LAB_FLAGS=--fast --seed 3`) or from `Lab(2, globals(), flags="--fast")`; they write no file and may be run again.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import string
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common import ending
from common.command_line import COMMON_FLAGS, Parser, add_common_arguments, ascii_only, console_path, in_a_folder, output_folder
from common.progress import WIDTH
from common.results import Results, write_together
from common.study import Study

if ending.runs_a_lab():
    in_a_folder(Parser(prog=Path(sys.argv[0]).name))
    if "--show" not in sys.argv:
        os.environ["MPLBACKEND"] = "Agg"  # draws into memory: no display is needed, and no backend that a kernel has set
    elif os.environ.get("MPLBACKEND", "").startswith("module:"):
        del os.environ["MPLBACKEND"]  # a kernel's, which opens no windows

gc.disable()  # a third of the time in which these two load is a search for garbage among what stays until the end
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

gc.freeze()  # nor is it searched later, which saves half a second at exit
gc.enable()

from common.plotting import figure_bytes, give_style_back, use_style
from common.precision import settle

KINDS = Path(__file__).resolve().parents[1] / "week6" / "kinds.json"  # by lab and key: what is not exact to a thousandth
RECORDED_AS = {"exact": {}, "zero": {"atol": 1e-9}, "draw": {"draw": True}, "choice": {"choice": True}}


class Lab:
    """One run of one lab; true unless the file is imported, or this section is skipped.

    Args:
        number: of the lab.
        namespace: the file's `globals()`, which tell how it runs.
        add_arguments: adds the lab's own flags to a parser.
        flags: for cells, instead of LAB_FLAGS, e.g. "--fast --seed 3".

    Attributes:
        options: the flags, `options.seed` and the lab's own among them.
        fast: whether this is a smoke run with less training.
        verbose: whether to print more than a first reading needs: with --verbose, and in cells, which show all they have.
        study: what many random starts found; false if there is no study, or if this run is another experiment than the
            study's, by its own flags or --fast.
        only: how the titles of the sections begin that run, e.g. "3."; the others are skipped. All run by default.

    Raises:
        ValueError: in a cell, for flags that do not exist; a script ends with one line and status 2.
    """

    def __init__(
        self,
        number: int,
        namespace: Mapping[str, Any],
        add_arguments: Callable[[Parser], None] | None = None,
        flags: str | None = None,
    ):
        file = namespace.get("__file__")
        runs = namespace["__name__"] == "__main__"
        # a kernel runs its cells as __main__, too, but they are not the file on its command line
        self._is_script = runs and file is not None and Path(sys.argv[0]).resolve() == Path(file).resolve()
        self._is_cell = runs and not self._is_script
        self._script = Path(file or "cells").resolve()
        self._files: dict[str, bytes] = {}  # of a script: written together at the end
        self._title = self.only = ""
        parser = Parser(prog=self._script.name, description=namespace.get("__doc__"), raises=self._is_cell)
        add_common_arguments(parser)
        parser.add_argument("--show", action="store_true", help="open the figures in windows at the end")
        parser.add_argument("--verbose", action="store_true", help="print more numbers")
        if add_arguments is not None:
            add_arguments(parser)
        self.options = parser.parse_args(self._words(flags))
        self.fast, self.verbose = self.options.fast, self.options.verbose or self._is_cell  # a cell shows all it has
        own, usual = (_own_flags(options) for options in (self.options, parser.parse_args([])))
        self._kinds = json.loads(KINDS.read_text(encoding="ascii")).get(f"{number:02d}", {})
        self._results = Results(lab=number, seed=self.options.seed, fast=self.fast, options=own)
        if self._is_script:
            self._prepare_script(parser)
        self.study = self._find_study(number if self and own == usual and not self.fast else 0, parser)
        if self:
            settle()
            if self._is_script:
                use_style()
            if self.fast:
                self.say("--fast, a smoke run: hardly anything is trained, and the numbers below mean little.")

    def __bool__(self) -> bool:
        return (self._is_script or self._is_cell) and self._title.startswith(self.only)

    # --- randomness -------------------------------------------------------------------------------------------------

    def seed(self, section: str) -> int:
        """A seed from --seed and the section's name, so that a section alone gives the numbers of a full run."""
        return zlib.crc32(f"{self.options.seed} {section}".encode())

    def generator(self, section: str) -> torch.Generator:
        """A fresh generator for one section's data."""
        return torch.Generator().manual_seed(self.seed(section))

    # --- what a cell shows ------------------------------------------------------------------------------------------

    def section(self, title: str) -> bool:
        """Print a heading; whether the section runs."""
        self._title = title
        if self:
            settle()
            print(f"{title} ".ljust(WIDTH, "-"), flush=True)
        return bool(self)

    def say(self, text: str, **values: object) -> None:
        """One paragraph, wrapped, and an empty line.

        Args:
            text: in it {key} stands for what was recorded, {key@median} for a statistic of the study (median, q10, q90,
                min, max, n), {name} for one of the values.
        """
        text = _Template(self._results.values, self.study).vformat(text, (), values)
        print(textwrap.fill(" ".join(text.split()), WIDTH), end="\n\n", flush=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence], *, digits: int = 2) -> None:
        """Aligned columns, the first to the left, the others to the right; floats with `digits` decimals."""
        cells = [[f"{x:.{digits}f}" if isinstance(x, float) else str(x) for x in row] for row in [header, *rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = [row[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))]
            print("  " + "  ".join(padded).rstrip())
        print(flush=True)

    def figure(self, fig: Figure, name: str) -> None:
        """A script keeps the figure in every format asked for, for `finish`; a cell shows it."""
        if self._is_cell:
            use_style()
            plt.show()
            give_style_back()
            return
        for suffix in () if os.environ.get("LAB_NO_FIGURES") else self.options.format:  # a study needs the numbers only
            self.write(f"{name}.{suffix}", figure_bytes(fig, suffix, self.options.dpi))
        if not self.options.show:
            plt.close(fig)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def record(self, key: str, values: Any) -> Any:
        """Keep findings under dotted keys and return them as kept, rounded to six digits.

        Args:
            key: of a number; of a mapping the part before the dot. {"scaled": {"d512": x}} under "entropy" is kept as
                entropy.scaled.d512.
            values: a number, or a mapping from names to numbers or mappings.

        Raises:
            ValueError: a value that is not finite, or, in a script, a key that is used twice.
        """
        if isinstance(values, Mapping):
            return {name: self.record(f"{key}.{name}", value) for name, value in values.items()}
        if self._is_cell:
            self._results.values.pop(key, None)  # it may be run again
        kind = next((kind for pattern, kind in self._kinds.items() if fnmatchcase(key, pattern)), "exact")
        return self._results.record(key, values, **RECORDED_AS[kind])

    def record_seconds(self, key: str, seconds: float) -> float:
        """Keep a wall-clock time, apart from the findings, because it differs on every machine."""
        self._results.seconds[key] = float(f"{seconds:.3g}")
        return seconds

    def write(self, name: str, content: bytes) -> None:
        """A script keeps a file that belongs beside its figures, for `finish`; a cell writes nothing."""
        if self._is_script:
            self._files[name] = content

    def finish(self) -> None:
        """A script writes its figures and findings, all or none, says where they are, and shows the figures if asked.

        A run that has neither, as Lab 5's search for learning rates, leaves the files of the run before.
        """
        if self._is_cell:
            self.say("In cells nothing was written. Run as a script, this lab writes its figures and findings to outputs/.")
        if not self._is_script:
            return
        if not (self._files or self._results.values or self._results.seconds):
            self.say("This run found nothing to keep, so it wrote no files.")
            return
        number = f"{self._results.run['lab']:02d}"
        if self._results.seconds:
            self.write(f"{number}_seconds.json", self._results.seconds_to_json())
        self.write(f"{number}_results.json", self._results.to_json())
        try:
            with ending.held():
                write_together(self.options.out, self._files)
        except OSError as error:
            path = Path(error.filename2 or error.filename or self.options.out)
            sys.exit(f"{self._script.name}: cannot write {console_path(path)}: {error.strerror}")
        self.say("Written to {out}: {names}", out=console_path(self.options.out), names=", ".join(self._files))
        if self.options.show:
            plt.show()
        give_style_back()

    # --- how it starts ----------------------------------------------------------------------------------------------

    def _words(self, flags: str | None) -> list[str]:
        """The command line of a script, or what stands for it in cells."""
        if self._is_script:
            return sys.argv[1:]
        return shlex.split(flags or os.environ.get("LAB_FLAGS", "")) if self._is_cell else []

    def _prepare_script(self, parser: Parser) -> None:
        options = self.options
        options.format = list(dict.fromkeys(options.format or ["png"]))
        options.dpi = options.dpi or (75 if self.fast else 150)
        if ending.owns_process(str(self._script)):
            ending.in_order()
            ending.at_once()
            sys.stdout.reconfigure(errors="backslashreplace")
            if not options.show:
                plt.switch_backend("Agg")
        if options.show and plt.get_backend().lower() == "agg":
            parser.error("argument --show: there is no display here; leave it out and open the files instead")
        options.out = output_folder(parser, options.out, self._script.parent / "outputs" / ("fast" if self.fast else ""))

    def _find_study(self, number: int, parser: Parser) -> Study:
        try:
            return Study(number)
        except ValueError as error:
            problem = ascii_only(f"the study is spoilt, {error}; `git checkout week6/outputs` brings the course's back")
            if self._is_cell:
                raise ValueError(problem) from None
            parser.exit(2, f"{self._script.name}: {problem}\n")


def _own_flags(options) -> dict[str, Any]:
    """Those that not every lab has: with others the run is another experiment."""
    return {name: value for name, value in vars(options).items() if name not in COMMON_FLAGS}


class _Template(string.Formatter):
    """Format strings whose {dotted.keys} are records, {dotted.keys@median} statistics of the study, and whose other {names}
    are keyword arguments."""

    def __init__(self, records: Mapping[str, Mapping[str, float]], study: Study):
        self.records, self.study = records, study

    def get_field(self, field_name: str, args: Sequence, kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        key, _, name = field_name.partition("@")
        if name:
            found = self.study.n if name == "n" else self.study.statistic(key, name)
            if found is None:
                raise KeyError(f"the study has no {field_name}")
            return found, field_name
        return self.records[key]["value"] if key in self.records else kwargs[key], field_name
