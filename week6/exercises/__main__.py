"""Grade your exercises: `python -m week6.exercises`, from elsewhere `python path/to/week6/exercises`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
if not __package__:  # run as a folder, which Python then takes for the place to import from
    sys.path[0] = str(HERE.parents[1])

from common import ending
from common.command_line import Parser
from week6.exercises.catalogue import NAMES
from week6.exercises.report import Console
from week6.exercises.runner import Grading, Limits, StoppedError, UnreadableError
from week6.exercises.verdict import SOLVED, WRONG, Verdict
from week6.exercises.worker import FINALE

WATCH_EVERY = 0.1  # seconds between two looks at the file


def grade_once(
    grading: Grading,
    file: Path,
    names: Sequence[str],
    console: Console,
    *,
    finale: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Verdict]:
    """Grade and print: a line for each function as it is known, the explanations, and what comes next."""
    verdicts: dict[str, Verdict] = {}
    limits = Limits() if finale else Limits(finale=0.0)
    for name, said in grading.verdicts(file, names, limits, should_stop):
        if name == FINALE:
            print("\n".join(console.both(*said)), flush=True)
            continue
        verdicts[name] = said
        print(console.line(name, said), flush=True)
        if len(verdicts) == len(names):
            print_rest(verdicts, file, console)
    return verdicts


def print_rest(verdicts: dict[str, Verdict], file: Path, console: Console) -> None:
    for name in NAMES:
        if name in verdicts and verdicts[name].outcome == WRONG:
            print("\n" + console.coloured(f"--- {name} ", WRONG) + "-" * (console.width - len(name) - 5))
            print(console.explanation(verdicts[name]))
    print(f"\n{console.bar(verdicts)}")
    print(console.next_step(verdicts, file.name), flush=True)


def signature(file: Path) -> tuple[int, int] | None:
    """What changes when the file is saved; None while there is none, as between the two steps of an editor's save."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def watch(file: Path, names: Sequence[str], console: Console, *, finale: bool) -> None:
    """Grade whenever the file is saved, until Ctrl-C. The finale is shown once."""
    with Grading(spare=True) as grading:
        while True:
            seen = signature(file)

            def saved(seen=seen) -> bool:
                return signature(file) not in (seen, None)

            print(f"{datetime.now():%H:%M:%S}  {file.name}", flush=True)
            try:
                verdicts = grade_once(grading, file, names, console, finale=finale, should_stop=saved)
                finale &= not all_solved(verdicts)
            except UnreadableError as error:
                print(error.text(korean=console.korean), flush=True)
            except StoppedError:
                continue  # saved again
            print("\nWaiting for the next save; Ctrl-C ends.\n", flush=True)
            while not saved():
                time.sleep(WATCH_EVERY)


def all_solved(verdicts: dict[str, Verdict]) -> bool:
    return len(verdicts) == len(NAMES) and all(verdict.outcome == SOLVED for verdict in verdicts.values())


def main(argv: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):  # no console may stop the grader because it lacks a letter
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = Parser(prog="python -m week6.exercises", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="functions to grade (default: all)")
    parser.add_argument("--solutions", metavar="FILE", type=Path, default=HERE / "exercises.py", help="default: exercises.py")
    parser.add_argument("--watch", action="store_true", help="grade again whenever the file is saved")
    parser.add_argument("--no-finale", action="store_true", help="when all is solved, do not train a model of the functions")
    options = parser.parse_args(argv)
    unknown = next((name for name in options.names if name not in NAMES), None)
    if unknown:
        parser.error(f"there is no exercise {unknown!r}; there are {', '.join(NAMES)}")
    names = [name for name in NAMES if name in options.names or not options.names]
    file, console = options.solutions.resolve(), Console.of(sys.stdout)
    if options.watch:
        if not file.is_file():
            parser.error(f"argument --watch: there is no file {str(options.solutions)!r}")
        watch(file, names, console, finale=not options.no_finale)
    if sys.stdout.isatty():
        print(f"Grading {file.name} ...", flush=True)  # torch takes seconds to load
    try:
        with Grading() as grading:
            verdicts = grade_once(grading, file, names, console, finale=not options.no_finale)
    except UnreadableError as error:
        print(error.text(korean=console.korean), file=sys.stderr)
        return 2
    return 1 if any(verdict.outcome == WRONG for verdict in verdicts.values()) else 0


if __name__ == "__main__":
    ending.in_order()
    sys.exit(main(sys.argv[1:]))
