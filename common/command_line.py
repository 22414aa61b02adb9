"""Flags and console text that the scripts and the runner share. Light: loads neither torch nor matplotlib."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TextIO

FORMATS = ("png", "svg", "pdf")
MAX_SEED = 2**32 - 1
COMMON_FLAGS = ("out", "fast", "seed", "format", "dpi", "show", "verbose")


def ascii_only(text: str) -> str:
    """The text with every other letter as an escape, so that any console can print it."""
    return text.encode("ascii", "backslashreplace").decode()


def console_path(path: Path) -> str:
    """The path as ASCII: relative where that is short, as a file:// address where it has other letters."""
    path = path.resolve()
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path) if str(path).isascii() else path.resolve().as_uri()


class Parser(argparse.ArgumentParser):
    """argparse that refuses abbreviated flags and answers a mistake with one ASCII line and status 2.

    Args:
        raises: in a notebook a mistake is a ValueError, for there is no process to end.
    """

    def __init__(self, *, raises: bool = False, **kwargs):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.raises = raises

    def error(self, message: str):
        if self.raises:
            raise ValueError(f"LAB_FLAGS: {message}")
        self.exit(2, f"{self.prog}: {ascii_only(' '.join(message.split()))} (--help lists the flags)\n")

    def print_help(self, file: TextIO | None = None) -> None:
        print(self.format_help(), end="", file=file, flush=True)  # argparse leaves the flush to the end, where it is too late


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


def divisor_of(width: int, most: int | None = None) -> Callable[[str], int]:
    """An argparse type: a number, at most `most`, that divides the width, as a number of heads must."""
    allowed = [str(n) for n in range(1, (most or width) + 1) if width % n == 0]
    limit = f" and be at most {most}" if most else ""

    def parse(text: str) -> int:
        if text not in allowed:
            problem = f"must divide the width {width}{limit}" if limit else f"does not divide the width {width}"
            raise argparse.ArgumentTypeError(f"{text!r} {problem}; allowed: {', '.join(allowed)}")
        return int(text)

    return parse


def noise_level(text: str) -> float:
    """An argparse type: a standard deviation from 0 to 10."""
    try:
        value = float(f"{float(text):g}") + 0.0  # as it is shown; turns -0 into 0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a standard deviation from 0 to 10")
    return value


class Ordered(argparse.Action):
    """Several values, in ascending order and each once."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, sorted(set(values)))


def sentence_of(known: Collection[str], most: int) -> Callable[[str], list[str]]:
    """An argparse type: 2 to `most` of the known words; capitals and punctuation are ignored."""

    def parse(text: str) -> list[str]:
        words = "".join(c for c in text.lower() if c not in ",.!?;:").split()
        unknown = [repr(word) for word in words if word not in known]
        if unknown or not 2 <= len(words) <= most:
            problem = f"unknown word {unknown[0]}" if unknown else f"{len(words)} words, not 2 to {most}"
            raise argparse.ArgumentTypeError(f"{problem}; known words: {', '.join(sorted(known))}")
        return words

    return parse


def add_common_arguments(parser: Parser) -> None:
    """The flags that scripts and runner share."""
    parser.add_argument("--out", metavar="DIR", help="folder for figures and results (default: outputs/)")
    parser.add_argument("--fast", action="store_true", help="less training, same figures; into outputs/fast/")
    parser.add_argument("--seed", type=whole_number(0, MAX_SEED), default=0, metavar="N", help="default: 0")
    parser.add_argument("--format", action="append", choices=FORMATS, help="of the figures; may be repeated")
    parser.add_argument("--dpi", type=whole_number(30, 1200), metavar="N", help="of PNG figures; default: 150, with --fast 75")


def in_a_folder(parser: Parser) -> None:
    """A one-line error and status 2 if the working folder was deleted, without which not even torch loads."""
    try:
        os.getcwd()
    except OSError:
        parser.error("the folder you are in no longer exists; change to another one")


def output_folder(parser: Parser, out: str | None, default: Path) -> Path:
    """The folder, made and tried; a one-line error and status 2 if it cannot be written."""
    folder = default if out is None else Path(out)
    in_a_folder(parser)
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
