"""The run of a lab: its flags, its console output, its findings and figures, and an orderly end.

Every script ends with `run(main, __file__, add_arguments)`. `main(lab)` prints through `lab.section`, `lab.say` and
`lab.table`, keeps its numbers with `lab.record` and writes its pictures with `lab.figure`.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from common.command_line import COMMON_FLAGS, Parser, add_common_arguments, console_path, output_folder
from common.results import Results, write_whole

gc.disable()  # a third of the time in which these two load is a search for garbage among what stays until the end
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

gc.freeze()  # nor is it searched later, which saves half a second at exit
gc.enable()

from common.plotting import figure_bytes, use_style

Item = TypeVar("Item")
WIDTH = 96  # columns of the console output


class LabError(Exception):
    """Something the user has to mend (a full disk, a file that is locked): shown as one line, without a traceback."""


class Lab:
    """One run of one lab.

    Attributes:
        number: of the lab, from the script's name.
        options: the parsed flags, `options.seed` and the lab's own among them.
        out: the folder that receives the figures and `NN_results.json`.
        fast: whether this is a smoke run with less training.
    """

    def __init__(self, script: Path, options: argparse.Namespace):
        torch.set_num_threads(1)  # at these sizes more threads are slower, and less reproducible
        use_style()
        self.number = int(script.name[:2])
        self.options, self.out, self.fast = options, options.out, options.fast
        own = {k: v for k, v in vars(options).items() if k not in COMMON_FLAGS}
        self._results = Results(lab=self.number, seed=options.seed, fast=self.fast, options=own, figures={})
        self._written: list[str] = []

    # --- randomness -------------------------------------------------------------------------------------------------

    def seed(self, section: str) -> int:
        """A seed from --seed and the section's name, so that a section alone gives the numbers of a full run."""
        return zlib.crc32(f"{self.options.seed} {section}".encode())

    def generator(self, section: str) -> torch.Generator:
        """A fresh generator for one section's data."""
        return torch.Generator().manual_seed(self.seed(section))

    # --- console ----------------------------------------------------------------------------------------------------

    def section(self, title: str) -> None:
        print(f"{title}\n{'-' * len(title)}", flush=True)

    def say(self, text: str) -> None:
        """One paragraph, wrapped, and an empty line."""
        print(textwrap.fill(" ".join(text.split()), WIDTH), end="\n\n", flush=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence], *, digits: int = 2) -> None:
        """Aligned columns, the first to the left, the others to the right; floats with `digits` decimals."""
        cells = [[f"{x:.{digits}f}" if isinstance(x, float) else str(x) for x in row] for row in [header, *rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = [row[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))]
            print("  " + "  ".join(padded).rstrip())
        print(flush=True)

    def progress(self, items: Collection[Item], label: str) -> Iterator[Item]:
        """Iterate with a sign of life: one line updated in place on a terminal, a line every ten seconds in a log."""
        live = sys.stdout.isatty()
        start = last = time.perf_counter()
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            if now - last >= (0.1 if live else 10.0):
                last = now
                line = f"  {label}: {100 * done // len(items)} % after {now - start:.0f} s"
                print(f"\r{line:<{WIDTH}}" if live else line, end="" if live else "\n", flush=True)
        if live:
            print(f"\r{'':<{WIDTH}}\r", end="", flush=True)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def record(self, key: str, value: float, *, rtol: float, atol: float = 0.0) -> float:
        """Keep a finding in `NN_results.json` and return it as kept; see `Results.record`."""
        return self._results.record(key, value, rtol=rtol, atol=atol)

    def record_all(self, prefix: str, values: Mapping[str, float], *, rtol: float, atol: float = 0.0) -> dict[str, float]:
        """`record` each value under "prefix.name"; returns them by name."""
        return {n: self.record(f"{prefix}.{n}", v, rtol=rtol, atol=atol) for n, v in values.items()}

    def record_seconds(self, key: str, seconds: float) -> float:
        """Keep a wall-clock time, apart from the findings, because it differs on every machine."""
        self._results.seconds[key] = float(f"{seconds:.3g}")
        return seconds

    def figure(self, fig: Figure, name: str) -> None:
        """Write a figure in every format asked for, and close it unless --show wants it."""
        for suffix in self.options.format:
            self.write(f"{name}.{suffix}", figure_bytes(fig, suffix, self.options.dpi))
        self._results.run["figures"][name] = " ".join(fig.get_suptitle().split())
        if not self.options.show:
            plt.close(fig)

    def write(self, name: str, content: bytes) -> None:
        """Write a file of this run, whole or not at all."""
        self._write(name, content)
        self._written.append(name)

    def finish(self) -> None:
        """Write the findings, say where everything is, and show the figures if asked."""
        name = f"{self.number:02d}_results.json"
        self._write(name, self._results.to_json())
        self.section(f"Written to {console_path(self.out)}")
        print(textwrap.indent("\n".join([*self._written, name]), "  "), flush=True)
        if self.options.show:
            plt.show()

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_whole(self.out / name, content)
        except OSError as error:
            raise LabError(f"cannot write {console_path(self.out / name)}: {error.strerror}") from error


def open_lab(
    script: str | Path,
    argv: Sequence[str],
    add_arguments: Callable[[Parser], None] | None = None,
    doc: str | None = None,
) -> Lab:
    """Read the flags of a script and make its Lab; a mistake ends with one line and status 2 before any work."""
    script = Path(script).resolve()
    parser = Parser(prog=script.name, description=doc)
    add_common_arguments(parser)
    parser.add_argument("--show", action="store_true", help="open the figures in windows at the end")
    if add_arguments is not None:
        add_arguments(parser)
    options = parser.parse_args(argv)
    options.format = list(dict.fromkeys(options.format or ["png"]))
    options.dpi = options.dpi or (75 if options.fast else 150)
    _choose_backend(parser, options.show)
    default = script.parent / "outputs" / ("fast" if options.fast else "")
    options.out = output_folder(parser, options.out, default)
    return Lab(script, options)


def _choose_backend(parser: Parser, show: bool) -> None:
    if not show:
        plt.switch_backend("Agg")  # draws into memory: no display is needed
    elif plt.get_backend().lower() == "agg":
        parser.error("argument --show: there is no display here; leave it out and open the files instead")


def run(main: Callable[[Lab], None], script: str, add_arguments: Callable[[Parser], None] | None = None) -> None:
    """Run a lab as a script: flags from the command line, one line instead of a traceback for a user's mistake."""
    sys.stdout.reconfigure(errors="backslashreplace")
    doc = sys.modules["__main__"].__doc__
    lab = open_lab(script, sys.argv[1:], add_arguments, doc)
    if lab.fast:
        lab.say("--fast, a smoke run: hardly anything is trained, and the numbers below mean little.")
    try:
        main(lab)
        lab.finish()
    except LabError as error:
        sys.exit(f"{Path(script).name}: {error}")
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
