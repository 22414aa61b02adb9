"""The run of a lab: its flags, its console output, its findings and figures, and an orderly end.

Every script ends with `run(main, __file__, add_arguments)`. `main(lab)` prints through `lab.section`, `lab.say` and
`lab.table`, keeps its numbers with `lab.record` and writes its pictures with `lab.figure`.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import textwrap
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common.results import Results, write_whole

# torch and matplotlib take seconds to load and are imported where they are used, so that this module is there at once:
# a script imports it first, and from then on Ctrl-C ends the script with one line, also while torch loads.
if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

Item = TypeVar("Item")
FORMATS = ("png", "svg", "pdf")
MAX_SEED = 2**32 - 1
COMMON_FLAGS = ("out", "fast", "seed", "format", "dpi", "show")
WIDTH = 96  # columns of the console output


def _end_quietly_on_ctrl_c(kind, error, traceback) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    sys.stdout.flush()
    print("\nInterrupted.", file=sys.stderr, flush=True)
    os._exit(130)  # not sys.exit, which an excepthook cannot turn into a status


sys.excepthook = _end_quietly_on_ctrl_c


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
        import torch

        from common.plotting import use_style

        torch.set_num_threads(1)  # at these sizes more threads are slower, and less reproducible
        use_style()
        self.number = int(script.name[:2])
        self.options, self.out, self.fast = options, options.out, options.fast
        own = {k: v for k, v in vars(options).items() if k not in COMMON_FLAGS}
        self._results = Results(lab=self.number, seed=options.seed, fast=self.fast, options=own)
        self._figures: list[str] = []

    # --- randomness -------------------------------------------------------------------------------------------------

    def seed(self, section: str) -> int:
        """A seed from --seed and the section's name, so that a section alone gives the numbers of a full run."""
        return zlib.crc32(f"{self.options.seed} {section}".encode())

    def generator(self, section: str) -> torch.Generator:
        """A fresh generator for one section's data."""
        import torch

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
        import matplotlib.pyplot as plt

        from common.plotting import figure_bytes

        for suffix in self.options.format:
            self._write(f"{name}.{suffix}", figure_bytes(fig, suffix, self.options.dpi))
            self._figures.append(f"{name}.{suffix}")
        if not self.options.show:
            plt.close(fig)

    def finish(self) -> None:
        """Write the findings, say where everything is, and show the figures if asked."""
        import matplotlib.pyplot as plt

        name = f"{self.number:02d}_results.json"
        self._write(name, self._results.to_json())
        self.section(f"Written to {console_path(self.out)}")
        print(textwrap.indent("\n".join([*self._figures, name]), "  "), flush=True)
        if self.options.show:
            plt.show()

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_whole(self.out / name, content)
        except OSError as error:
            raise LabError(f"cannot write {console_path(self.out / name)}: {error.strerror}") from error


def ascii_only(text: str) -> str:
    """The text with every other letter as an escape, so that any console can print it."""
    return text.encode("ascii", "backslashreplace").decode()


def console_path(path: Path) -> str:
    """The path as ASCII: relative where that is short, as a file:// address where it has other letters."""
    path = path.resolve()
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path) if str(path).isascii() else path.resolve().as_uri()


# --- flags ----------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse that refuses abbreviated flags and answers a mistake with one ASCII line and status 2."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {ascii_only(' '.join(message.split()))} (--help lists the flags)\n")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def add_common_arguments(parser: Parser) -> None:
    """The flags that scripts and runner share."""
    parser.add_argument("--out", metavar="DIR", help="folder for figures and results (default: outputs/)")
    parser.add_argument("--fast", action="store_true", help="less training, same figures; into outputs/fast/")
    parser.add_argument("--seed", type=whole_number(0, MAX_SEED), default=0, metavar="N", help="default: 0")
    parser.add_argument("--format", action="append", choices=FORMATS, help="of the figures; may be repeated")
    parser.add_argument("--dpi", type=whole_number(30, 1200), default=150, metavar="N", help="default: 150")


def output_folder(parser: Parser, out: str | None, default: Path) -> Path:
    """The folder, made and tried; a one-line error and status 2 if it cannot be written."""
    folder = default if out is None else Path(out)
    try:
        if out == "" or (folder.exists() and not folder.is_dir()):
            parser.error(f"argument --out: {out!r} is not a folder; give a folder, which is made if it is missing")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        parser.error(f"argument --out: cannot write to {str(folder)!r} ({reason}); give a folder you may write to")
    return folder


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
    _choose_backend(parser, options.show)
    default = script.parent / "outputs" / ("fast" if options.fast else "")
    options.out = output_folder(parser, options.out, default)
    return Lab(script, options)


def _choose_backend(parser: Parser, show: bool) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    if not show:
        matplotlib.use("Agg")  # draws into memory: no display is needed
    elif plt.get_backend().lower() == "agg":
        parser.error("argument --show: there is no display here; leave it out and open the files instead")


def run(main: Callable[[Lab], None], script: str, add_arguments: Callable[[Parser], None] | None = None) -> None:
    """Run a lab as a script: flags from the command line, one line instead of a traceback for a user's mistake."""
    gc.freeze()  # what torch brought stays until the end: not searching it for garbage saves half a second at exit
    sys.stdout.reconfigure(errors="backslashreplace")
    doc = sys.modules["__main__"].__doc__
    lab = open_lab(script, sys.argv[1:], add_arguments, doc)
    try:
        main(lab)
        lab.finish()
    except LabError as error:
        sys.exit(f"{Path(script).name}: {error}")
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
