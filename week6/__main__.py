"""Run the labs: `python -m week6`, or `python -m week6 --check` to see which numbers moved.

Every `NN_name.py` in this folder is a lab; a new one needs no change here. Each runs as a process of its own, so that
it gives the numbers that it gives alone, and a failure of one stops no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from common.command_line import (
    COMMON_FLAGS,
    Parser,
    add_common_arguments,
    ascii_only,
    console_path,
    output_folder,
    whole_number,
)
from common.results import moved
from week6.index import write_index

HERE = Path(__file__).resolve().parent
SCRIPTS = {int(path.name[:2]): path for path in sorted(HERE.glob("[0-9][0-9]_*.py"))}


@dataclass
class Outcome:
    """How one lab ended: its process's exit status, everything it printed, and the wall-clock seconds it took."""

    number: int
    status: int
    output: str
    seconds: float


class Labs:
    """The processes of one run, so that Ctrl-C can end those that are under way."""

    def __init__(self, flags: list[str]):
        self.flags = flags
        self.running: set[subprocess.Popen] = set()

    def run(self, number: int) -> Outcome:
        print(f"lab {number} started", flush=True)
        start = time.perf_counter()
        command = [sys.executable, str(SCRIPTS[number]), *self.flags]
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        self.running.add(process)
        output = process.communicate()[0].decode("utf-8", "replace").replace("\r\n", "\n")
        self.running.discard(process)
        return Outcome(number, process.returncode, output, time.perf_counter() - start)

    def stop(self) -> None:
        for process in list(self.running):
            process.terminate()


def run_labs(numbers: list[int], flags: list[str], jobs: int) -> list[Outcome]:
    """Run the labs, `jobs` at a time, and print a line as each ends."""
    labs, outcomes = Labs(flags), []
    pool = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([pool.submit(labs.run, number) for number in numbers]):
            outcome = future.result()
            outcomes.append(outcome)
            word = "done" if outcome.status == 0 else "FAILED"
            progress = f"{len(outcomes)} of {len(numbers)}"
            print(f"[{progress}] lab {outcome.number} {word} after {outcome.seconds:.1f} s", flush=True)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        labs.stop()
        raise
    return sorted(outcomes, key=lambda outcome: outcome.number)


def print_outcomes(outcomes: list[Outcome], out: Path) -> None:
    """What went wrong, then the table: lab, outcome, seconds, figures."""
    for outcome in outcomes:
        if outcome.status:
            print(f"\nLab {outcome.number} failed (status {outcome.status}). The end of its output:")
            print("\n".join(f"  {ascii_only(line)}" for line in outcome.output.splitlines()[-15:]))
    print(f"\n{'lab':<28} {'outcome':<8} {'seconds':>7}  figures")
    for outcome in outcomes:
        figures = sorted({p.stem for p in out.glob(f"{outcome.number:02d}_*.*") if p.suffix in (".png", ".svg", ".pdf")})
        word = "ok" if outcome.status == 0 else "FAILED"
        shown = ", ".join(name[3:] for name in figures) if outcome.status == 0 else "-"
        print(f"{SCRIPTS[outcome.number].name:<28} {word:<8} {outcome.seconds:>7.1f}  {shown}")


def check(numbers: list[int], jobs: int, parser: Parser) -> int:
    """Re-run the labs into a temporary folder and compare with the committed results; 0 if none moved."""
    committed = {number: HERE / "outputs" / f"{number:02d}_results.json" for number in numbers}
    for path in committed.values():
        if not path.is_file():
            parser.error(f"argument --check: there is no {console_path(path)} to compare with")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_labs(numbers, ["--out", folder], jobs)
        print_outcomes(outcomes, Path(folder))
        if any(outcome.status for outcome in outcomes):
            return 1
        lines = []
        for number, path in committed.items():
            old = json.loads(path.read_text(encoding="ascii"))
            new = json.loads((Path(folder) / path.name).read_text(encoding="ascii"))
            lines += [f"lab {number}: {line}" for line in moved(old, new)]
    compared = sum(len(json.loads(path.read_text(encoding="ascii"))["results"]) for path in committed.values())
    print(f"\n{compared} recorded numbers compared, {len(lines)} moved beyond their tolerance")
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m week6", description=__doc__)
    add_common_arguments(parser)
    parser.add_argument("--only", type=int, nargs="+", choices=list(SCRIPTS), metavar="LAB", help="these labs, e.g. 1 3")
    parser.add_argument("--jobs", type=whole_number(1, 64), metavar="N", help="labs at a time (default: one for each core)")
    parser.add_argument("--check", action="store_true", help="re-run, and compare with the committed results")
    options = parser.parse_args(argv)
    numbers = sorted(set(options.only or SCRIPTS), reverse=True)  # the later labs take longer: they start first
    jobs = min(options.jobs or os.cpu_count() or 1, len(numbers))
    if options.check:
        changed = [f"--{name}" for name in COMMON_FLAGS if getattr(options, name, None) != parser.get_default(name)]
        if changed:
            parser.error(f"argument --check: it repeats the committed run, so {changed[0]} does not go with it")
        return check(numbers, jobs, parser)
    out = output_folder(parser, options.out, HERE / "outputs" / ("fast" if options.fast else ""))
    flags = ["--out", str(out), "--seed", str(options.seed), *["--fast"] * options.fast]
    flags += ["--dpi", str(options.dpi)] if options.dpi else []
    flags += [word for suffix in options.format or () for word in ("--format", suffix)]
    outcomes = run_labs(numbers, flags, jobs)
    print_outcomes(outcomes, out)
    write_index(out, outcomes, course=HERE)
    print(f"\nFigures and results, all on one page: {console_path(out / 'index.html')}")
    return 1 if any(outcome.status for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
