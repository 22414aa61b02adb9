"""How fast the labs are on this machine: `python tests/benchmark.py`. Prints; asserts nothing, because clocks differ.

Seconds, time to the first figure and peak memory of each lab and of the suite, one block's forward and backward pass
beside nn.TransformerEncoderLayer in the same run, and training steps a second of Lab 5's two models. Compare
ratios; absolute times belong to the machine and the moment.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402

from common.experiments import batches_of, fit  # noqa: E402
from common.sines import sines  # noqa: E402
from common.transformer import TransformerBlock  # noqa: E402

# Runs a script and writes into a file when its first figure was drawn; a script writes its files only at its end.
FIRST_FIGURE = """
import pathlib, runpy, sys, time
sys.path.insert(0, ".")
from common import lab
draw = lab.figure_bytes
def drawn(*arguments):
    content = draw(*arguments)
    if not note.exists():
        note.write_text(str(time.time()))
    return content
lab.figure_bytes = drawn
note, sys.argv = pathlib.Path(sys.argv[1]), sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_process(*command: str) -> tuple[float, float]:
    """Seconds and peak memory (MB; NaN where the system does not tell) of a process that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    if not hasattr(os, "wait4"):
        status, peak = process.wait(), float("nan")
    else:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kB elsewhere
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, peak


def forward_and_backward(layer: nn.Module, x: torch.Tensor, passes: int = 50) -> float:
    """Milliseconds of one pass."""
    start = time.perf_counter()
    for _ in range(passes):
        output = layer(x)
        (output[0] if isinstance(output, tuple) else output).sum().backward()
    return (time.perf_counter() - start) / passes * 1e3


def compare_blocks(rounds: int = 9) -> tuple[float, float]:
    """Median milliseconds of our block and of torch's at (64, 20, 32), four heads, taken in turns."""
    x = torch.randn(64, 20, 32, requires_grad=True)
    ours = TransformerBlock(32, 4)
    theirs = nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, activation="gelu", batch_first=True)
    times = [(forward_and_backward(ours, x), forward_and_backward(theirs, x)) for _ in range(rounds + 1)]
    return median(a for a, _ in times[1:]), median(b for _, b in times[1:])  # the first round warms up


def training_speed(n_steps: int = 300, batch: int = 64) -> dict[str, float]:
    """Training steps a second of Lab 5's networks, 20 values in; the median of three trainings in turns."""
    lab = importlib.import_module("week6.05_sequence_modeling")
    data = sines(n_steps * batch, 20, 0.1, torch.Generator().manual_seed(0))
    speeds = {name: [] for name in lab.networks}
    for _ in range(4):
        for name, make in lab.networks.items():
            speeds[name].append(n_steps / fit(make, batches_of(data, batch), data, 1e-2, 0).seconds)
    return {name: median(values[1:]) for name, values in speeds.items()}  # the first turn warms up


def main() -> None:
    # the labs first: a new process counts the memory of the one that starts it, until it has loaded its own program
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':<28} {'seconds':>8} {'1st figure':>10} {'peak MB':>8} {'--fast s':>9}")
        for script in sorted((ROOT / "week6").glob("[0-9][0-9]_*.py")):
            note, start = Path(folder, f"{script.name}.first"), time.time()
            seconds, peak = run_process("-c", FIRST_FIGURE, str(note), str(script), "--out", folder)
            first = float(note.read_text()) - start
            fast, _ = run_process(str(script), "--out", folder, "--fast")
            print(f"{script.name:<28} {seconds:>8.1f} {first:>10.1f} {peak:>8.0f} {fast:>9.1f}", flush=True)
        seconds, _ = run_process("-m", "week6", "--out", folder)
        fast, _ = run_process("-m", "week6", "--out", folder, "--fast")
        print(f"{'python -m week6':<28} {seconds:>8.1f} {'':>19} {fast:>9.1f}\n")

    torch.set_num_threads(1)
    ours, theirs = compare_blocks()
    print("One block, forward and backward, (64, 20, 32), four heads, median of 9 rounds in turns:")
    print(f"  ours {ours:.2f} ms, nn.TransformerEncoderLayer {theirs:.2f} ms, ratio {ours / theirs:.2f}")
    speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in training_speed().items())
    print(f"Lab 5, training steps a second (64 sequences of 20 values): {speeds}")


if __name__ == "__main__":
    main()
