"""Run the labs: `python -m week6`, with --check to see which numbers moved, with --study for many random starts.

Every `NN_name.py` in this folder is a lab; a new one needs no change here. Each runs as a process of its own, so that
it gives the numbers that it gives alone, and a failure of one stops no other. Its files reach the folder when it has
succeeded, all together.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # so that `python week6` finds common/, from any folder

from common import ending

if __name__ == "__main__":
    ending.in_order()

from common.code_version import code_version
from common.command_line import (
    COMMON_FLAGS,
    Parser,
    add_common_arguments,
    ascii_only,
    console_path,
    output_folder,
    whole_number,
)
from common.locking import BusyError
from common.processes import Outcome, Task, folder_to_itself, publish, side_by_side
from common.progress import WIDTH
from common.results import kind, moved, read_results, write_whole
from common.study import Study, collect
from week6.index import FORMATS, figure_title, write_index

COURSE = (
    "01_attention_basics.py",
    "02_self_attention.py",
    "03_positional_encoding.py",
    "04_transformer_block.py",
    "05_sequence_modeling.py",
)


def find_labs(folder: Path) -> tuple[dict[int, Path], list[Path]]:
    """The labs by number, and copies of them: of several with one number the course's is the lab, or the shortest name."""
    labs, copies = {}, []
    scripts = (path for path in folder.glob("*.py") if re.match(r"\d\d_", path.name, re.ASCII))
    for path in sorted(scripts, key=lambda path: (path.name not in COURSE, len(path.name), path.name)):
        if labs.setdefault(int(path.name[:2]), path) is not path:
            copies.append(path)
    return dict(sorted(labs.items())), copies


SCRIPTS, COPIES = find_labs(HERE)


# --- one run of some labs -------------------------------------------------------------------------------------------


def run_labs(tasks: list[Task], jobs: int, staging: Path, out: Path | None) -> tuple[list[Outcome], dict[int, list[str]]]:
    """Run the labs, `jobs` at a time, with a line as each starts and ends.

    Args:
        tasks: one for each lab.
        jobs: how many run at a time.
        staging: where they write, each into a folder NN.
        out: where the files of a lab go that has succeeded; None leaves them.

    Returns:
        how each ended, by number, and the names of its figures.
    """
    ended, figures = [], {}

    def staged(task: Task) -> Path:
        return staging / f"{task.number:02d}"

    def started(task: Task) -> None:
        print(f"lab {task.number} started", flush=True)

    with closing(side_by_side(tasks, jobs, staged, started)) as outcomes:
        for outcome in outcomes:
            task = outcome.task
            drawn = sorted(path for path in staged(task).iterdir() if path.suffix in FORMATS)
            figures[task.number] = sorted({path.stem for path in drawn})
            findings = list(dict.fromkeys(filter(None, map(figure_title, drawn)))) if outcome.status == 0 else []
            if outcome.status == 0 and out is not None:
                outcome = published(outcome, staged(task), out)
            ended.append(outcome)
            word = "done" if outcome.status == 0 else "FAILED"
            progress = f"{len(ended)} of {len(tasks)}"
            print(f"[{progress}] lab {task.number} {word} after {outcome.seconds:.1f} s", flush=True)
            for finding in findings:  # the titles of its figures say what it found
                print(textwrap.fill(ascii_only(finding), WIDTH, initial_indent="  ", subsequent_indent="    "), flush=True)
    return sorted(ended, key=lambda outcome: outcome.task.number), figures


def published(outcome: Outcome, staged: Path, out: Path) -> Outcome:
    """The outcome, or a failure that says which file is locked."""
    try:
        publish(staged, out)
    except OSError as error:
        where = console_path(Path(error.filename2 or error.filename or out))
        return Outcome(outcome.task, 1, f"{where} cannot be replaced: {error.strerror}", outcome.seconds)
    return outcome


def print_failures(outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.status:
            print(f"\nLab {outcome.task.number} failed (status {outcome.status}). The end of its output:")
            print("\n".join(f"  {ascii_only(line)}" for line in outcome.output.splitlines()[-15:]))


def print_outcomes(outcomes: list[Outcome], figures: dict[int, list[str]]) -> None:
    """What went wrong, then the table: lab, outcome, seconds, figures."""
    print_failures(outcomes)
    print(f"\n{'lab':<28} {'outcome':<8} {'seconds':>7}  figures")
    for outcome in outcomes:
        word = "ok" if outcome.status == 0 else "FAILED"
        shown = ", ".join(name[3:] for name in figures[outcome.task.number]) if outcome.status == 0 else "-"
        print(f"{outcome.task.script.name:<28} {word:<8} {outcome.seconds:>7.1f}  {ascii_only(shown)}")


def run(numbers: list[int], jobs: int, flags: list[str], out: Path) -> int:
    """Run the labs into a folder; 0 if all succeeded."""
    with folder_to_itself(out) as staging:
        outcomes, figures = run_labs([Task(number, SCRIPTS[number], flags) for number in numbers], jobs, staging, out)
        write_index(out, [outcome.task.number for outcome in outcomes if outcome.status], course=HERE)
    print_outcomes(outcomes, figures)
    print(f"\nFigures and results, all on one page: {console_path(out / 'index.html')}")
    return 1 if any(outcome.status for outcome in outcomes) else 0


# --- a comparison with the committed numbers ------------------------------------------------------------------------


def committed_numbers(number: int) -> tuple[dict, Study]:
    """A lab's committed results and study.

    Raises:
        ValueError: one line that names the file that is missing or spoilt.
    """
    path = HERE / "outputs" / f"{number:02d}_results.json"
    if not path.is_file():
        raise ValueError(f"there is no {console_path(path)} to compare with")
    results, study = read_results(path, committed=True), Study(number, path.parent, committed=True)
    for key, entry in results["results"].items():
        if kind(entry) != "exact" and not study.values(key):
            raise ValueError(f"{path.name}: {key} is a {kind(entry)}, but no {number:02d}_study.json knows it; run --study")
    return results, study


def check(numbers: list[int], jobs: int, parser: Parser) -> int:
    """Re-run the labs into a temporary folder and compare with the committed results; 0 if none moved.

    An exact number has moved if it differs by more than its tolerance, a draw if it lies outside what the study leaves room
    for (`Study.room`), a choice if no start of the study made it.
    """
    try:
        committed = {number: committed_numbers(number) for number in numbers}
    except ValueError as error:
        parser.error(f"argument --check: {error}")
    with folder_to_itself(HERE / "outputs") as staging:
        outcomes, figures = run_labs([Task(number, SCRIPTS[number], []) for number in numbers], jobs, staging, None)
        print_outcomes(outcomes, figures)
        if any(outcome.status for outcome in outcomes):
            return 1
        lines = []
        for number, (old, study) in sorted(committed.items()):
            try:
                new = read_results(staging / f"{number:02d}" / f"{number:02d}_results.json")
                lines += [f"lab {number}: {line}" for line in moved(old, new, study)]
            except ValueError as error:
                lines.append(f"lab {number}: the re-run's {error}")
    kinds = [kind(entry) for old, _ in committed.values() for entry in old["results"].values()]
    exact = kinds.count("exact")
    compared = f"{len(kinds)} recorded numbers compared ({exact} exact, {len(kinds) - exact} draws and choices)"
    print(f"\n{compared}, {len(lines)} moved beyond what they may")
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


# --- many random starts ---------------------------------------------------------------------------------------------


class StudyRuns:
    """The runs of a study that are there already: `seed_NNN/NN_results.json`, and beside it which code it comes from."""

    def __init__(self, folder: Path, numbers: Iterable[int], fast: bool):
        self.folder, self.fast = folder, fast
        self.versions = {number: code_version(SCRIPTS[number]) for number in numbers}
        self.seconds: dict[int, list[float]] = {number: [] for number in numbers}

    def path(self, number: int, seed: int, name: str) -> Path:
        return self.folder / f"seed_{seed:03d}" / f"{number:02d}_{name}.json"

    def results(self, number: int, seed: int) -> dict | None:
        """What the run found; None if it has to be made, or made again because the code has changed."""
        try:
            stamp = json.loads(self.path(number, seed, "code").read_text(encoding="ascii"))
            if stamp["version"] != self.versions[number]:
                return None
            results = self._read(seed, self.path(number, seed, "results"))
            self.seconds[number].append(float(stamp["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return results

    def keep(self, outcome: Outcome, staged: Path) -> None:
        """Move the results of a run that has succeeded to their place.

        Raises:
            ValueError: they are not what they should be.
        """
        task = outcome.task
        name = f"{task.number:02d}_results.json"
        self._read(task.seed, staged / name)
        target = self.path(task.number, task.seed, "results")
        target.parent.mkdir(exist_ok=True)
        stamp = self.path(task.number, task.seed, "code")
        stamp.unlink(missing_ok=True)  # never a stamp beside results that it does not belong to
        os.replace(staged / name, target)
        self.seconds[task.number].append(outcome.seconds)
        content = {"version": self.versions[task.number], "seconds": round(outcome.seconds, 2)}
        write_whole(stamp, json.dumps(content).encode("ascii"))

    def _read(self, seed: int, path: Path) -> dict:
        results = read_results(path)
        if (results["seed"], results["fast"]) != (seed, self.fast):
            raise ValueError(f"{path.name}: from seed {results['seed']}, fast {results['fast']}")
        return results

    def left(self, tasks: Iterable[Task], jobs: int) -> str:
        """How long the tasks will take, from how long each lab has taken so far."""
        known = [mean(seconds) for seconds in self.seconds.values() if seconds]
        if not known:
            return "time unknown"
        each = [mean(self.seconds[task.number] or known) for task in tasks]
        minutes = sum(each) / jobs / 60
        return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {60 * minutes:.0f} s"


def make_study(numbers: list[int], n: int, jobs: int, fast: bool, out: Path) -> int:
    """Run the labs with the seeds 1 to n, as far as that is not done, and write `NN_study.json`; 0 if all went well."""
    folder = out / "study"
    folder.mkdir(exist_ok=True)
    with folder_to_itself(folder) as staging:
        runs = StudyRuns(folder, numbers, fast)
        flags, environment = ["--fast"] * fast, {"LAB_NO_FIGURES": "1"}
        tasks = [
            Task(number, SCRIPTS[number], ["--seed", str(seed), *flags], seed, environment)
            for seed in range(1, n + 1)
            for number in numbers
        ]
        waiting = [task for task in tasks if runs.results(task.number, task.seed) is None]
        print(
            f"{n} starts, {len(tasks)} runs: {len(tasks) - len(waiting)} are there, {len(waiting)} to make, {jobs} at a time."
        )
        print(f"They are kept in {console_path(folder)}: stopped, the same command goes on where it was.", flush=True)
        failed = run_study(waiting, jobs, runs, staging)
        print_failures(failed)
        complete = [write_study(runs, number, n, out) for number in sorted(numbers)]
    return 0 if all(complete) else 1


def run_study(waiting: list[Task], jobs: int, runs: StudyRuns, staging: Path) -> list[Outcome]:
    """Make the runs, with a line as each ends; returns those that failed."""
    left, failed = list(waiting), []

    def staged(task: Task) -> Path:
        return staging / f"{task.number:02d}_{task.seed}"

    with closing(side_by_side(waiting, jobs, staged)) as outcomes:
        for outcome in outcomes:
            task, word = outcome.task, "done"
            left.remove(task)
            try:
                if outcome.status:
                    raise ValueError(f"status {outcome.status}")
                runs.keep(outcome, staged(task))
            except (ValueError, OSError) as error:
                word = f"FAILED ({ascii_only(str(error))})"
                failed.append(outcome)
            progress = f"{len(waiting) - len(left)} of {len(waiting)}"
            time_left = f", {runs.left(left, jobs)} left" if left else ""
            print(
                f"[{progress}] lab {task.number}, seed {task.seed} {word} after {outcome.seconds:.0f} s{time_left}", flush=True
            )
    return failed


def write_study(runs: StudyRuns, number: int, n: int, out: Path) -> bool:
    """Collect one lab's runs; whether all were there and held the same keys."""
    found = [runs.results(number, seed) for seed in range(1, n + 1)]
    absent = [seed for seed, results in enumerate(found, 1) if results is None]
    if absent:
        print(f"lab {number}: no study, because {len(absent)} of {n} runs are missing (seed {absent[0]} for one)")
        return False
    content, missing = collect(found)
    path = out / f"{number:02d}_study.json"
    write_whole(path, content)
    print(f"lab {number}: {console_path(path)} holds {n} starts")
    if missing:
        print(f"lab {number}: left out {len(missing)} keys that not every start recorded: {', '.join(missing[:5])}")
    return not missing


# --- the command line -----------------------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m week6", description=__doc__)
    add_common_arguments(parser)
    parser.add_argument("--only", type=int, nargs="+", choices=list(SCRIPTS), metavar="LAB", help="these labs, e.g. 1 3")
    parser.add_argument("--jobs", type=whole_number(1, 64), metavar="N", help="labs at a time (default: one for each core)")
    parser.add_argument("--check", action="store_true", help="re-run, and compare with the committed results")
    parser.add_argument(
        "--study",
        type=whole_number(2, 9999),
        nargs="?",
        const=24,
        metavar="N",
        help="run with the seeds 1 to N (24), and collect what the starts found in NN_study.json; may be stopped and goes on",
    )
    options = parser.parse_args(argv)
    numbers = sorted(set(options.only or SCRIPTS), reverse=True)  # the later labs take longer: they start first
    forbidden = {"check": COMMON_FLAGS, "study": ("seed", "format", "dpi")}
    for mode in ("check", "study"):
        changed = [f"--{name}" for name in forbidden[mode] if getattr(options, name, None) != parser.get_default(name)]
        if getattr(options, mode) and changed:
            reason = "it repeats the committed run" if mode == "check" else "it chooses its own"
            parser.error(f"argument --{mode}: {reason}, so {changed[0]} does not go with it")
    if options.check and options.study:
        parser.error("argument --study: not together with --check")
    for copy in COPIES:
        print(f"{ascii_only(copy.name)} is not run: lab {int(copy.name[:2])} is {SCRIPTS[int(copy.name[:2])].name}")
    jobs = options.jobs or os.cpu_count() or 1
    if options.check:
        out = HERE / "outputs"
    else:
        out = output_folder(parser, options.out, HERE / "outputs" / ("fast" if options.fast else "")).resolve()
    try:
        if options.check:
            return check(numbers, jobs, parser)
        if options.study:
            refuse_smaller(parser, options, numbers)
            return make_study(numbers, options.study, jobs, options.fast, out)
        return run(numbers, jobs, lab_flags(options), out)
    except SyntaxError as error:
        parser.error(f"argument --study: {Path(error.filename).name}, line {error.lineno}: {error.msg}")
    except BusyError as error:
        busy = f"another run ({error.holder}) is writing to {console_path(out)}"
        parser.error(f"{busy}; wait for it, or take another folder (--out)")


def lab_flags(options) -> list[str]:
    """The flags that the runner hands on."""
    flags = ["--seed", str(options.seed), *["--fast"] * options.fast]
    flags += ["--dpi", str(options.dpi)] if options.dpi else []
    return flags + [word for suffix in options.format or () for word in ("--format", suffix)]


def refuse_smaller(parser: Parser, options, numbers: list[int]) -> None:
    """The course's study is not overwritten by a smaller one: the lesson counts its starts."""
    for number in numbers if options.out is None and not options.fast else ():
        try:
            there = Study(number, HERE / "outputs").n
        except ValueError:
            there = 0
        if options.study < there:
            parser.error(f"argument --study: the course's has {there} starts; give a smaller one its own folder (--out)")


def _stop(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows ends the labs and clears up
    os.write(2, b"\nStopped.\n")
    sys.exit(128 + number)


def command() -> int:
    """`main` as a process: a stop button, a closed terminal, a closed pipe and a full disk end it in order."""
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), _stop)
    status = main(sys.argv[1:])
    sys.stdout.flush()  # here, where a closed pipe and a full disk are answered
    return status


if __name__ == "__main__":
    sys.exit(command())
