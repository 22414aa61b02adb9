"""One look for all figures: a style sheet, heat maps, curves with a spread, and the figure file.

The helpers take the Axes first and draw into it, as matplotlib's guide advises; whoever calls them owns the layout.
"""

from __future__ import annotations

import contextlib
import io
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

STYLE_SHEET = Path(__file__).with_name("labs.mplstyle")
# Okabe-Ito, by name; the style sheet cycles through the same ones.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#666666",
)
# The same model has the same colour, marker and line in every figure of the suite.
MODEL_STYLES = {
    "Transformer": {"color": BLUE, "marker": "o", "ls": "-"},
    "attention": {"color": BLUE, "marker": "o", "ls": "-"},
    "RNN": {"color": VERMILLION, "marker": "s", "ls": "--"},
    "LSTM": {"color": ORANGE, "marker": "^", "ls": "-."},
    "LSTM, forget bias 3": {"color": PURPLE, "marker": "v", "ls": "-."},
    "GRU": {"color": GREEN, "marker": "D", "ls": ":"},
    "linear formula": {"color": GREY, "marker": "v", "ls": ":"},
    "limit: fitted sine": {"color": "black", "marker": "x", "ls": "--"},
}
# No file carries a version or a date: the same picture gives the same bytes on every day.
_METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_NO_STYLE = ("figure.hooks", "figure.max_open_warning")  # what a style sheet does not reset
_look: contextlib.ExitStack | None = None  # gives the session's own look back; None while that is in force


def use_style() -> None:
    """Make matplotlib draw as labs.mplstyle says, whatever a matplotlibrc or the session says, until `give_style_back`.

    In IPython (Jupyter, VS Code, Spyder) that is the end of the cell at the latest.
    """
    global _look
    if _look is not None:
        return
    _look = contextlib.ExitStack()
    _look.enter_context(plt.rc_context())
    plt.style.use(["default", STYLE_SHEET])
    plt.rcParams.update({name: plt.rcParamsDefault[name] for name in _NO_STYLE})
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.events.register("post_run_cell", give_style_back)
        _look.callback(shell.events.unregister, "post_run_cell", give_style_back)


def give_style_back(*_: object) -> None:
    """Make matplotlib draw again as the session wants it."""
    global _look
    if _look is not None:
        _look.close()
        _look = None


def figure_bytes(fig: Figure, suffix: str, dpi: int) -> bytes:
    """The figure as a file's content; suffix is "png", "svg" or "pdf". Its title, the finding, stands in the metadata, too."""
    use_style()
    buffer = io.BytesIO()
    title = " ".join(fig.get_suptitle().split())
    metadata = _METADATA[suffix] | ({"Title": title} if title else {})
    fig.savefig(buffer, format=suffix, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def panels(headline: str, widths: Sequence[float], *, size: tuple[float, float], rows: int = 1) -> tuple:
    """Panels in one or more rows under a headline that states the finding, wrapped to the figure's width.

    Args:
        headline: the finding, with its number.
        widths: relative widths of the panels in a row.
        size: width and height in inches.
        rows: number of rows.

    Returns:
        the Figure and an array of its Axes, row by row.
    """
    use_style()
    fig, axes = plt.subplots(rows, len(widths), figsize=size, width_ratios=widths, squeeze=False)
    columns = int(size[0] * 8.0)  # bold 15 pt letters that fit the width
    fig.suptitle(textwrap.fill(headline, columns), x=0.01, ha="left")
    return fig, axes.ravel()


def heatmap(
    ax: Axes,
    matrix: np.ndarray,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    row_label: str = "query (row)",
    column_label: str = "key (column)",
    signed: bool = False,
    limit: float | None = None,
    numbers: str | None = None,
) -> AxesImage:
    """A matrix as colours: from 0 to `limit` in viridis, or from -limit to limit around white if `signed`.

    Args:
        ax: where to draw.
        matrix: (n_rows, n_columns); a NaN stays grey.
        rows, columns: the names on the axes, e.g. tokens.
        row_label, column_label: what rows and columns are.
        signed: for values of both signs.
        limit: the end of the colour scale; 1 for weights, the largest absolute value if `signed`.
        numbers: format of the numbers in the cells, e.g. ".2f"; none by default.

    Returns:
        the image, for a colour bar.
    """
    matrix = np.asarray(matrix)
    if limit is None:
        limit = float(np.nanmax(np.abs(matrix))) or 1.0 if signed else 1.0
    norm = Normalize(-limit if signed else 0.0, limit)
    image = ax.imshow(matrix, cmap="RdBu_r" if signed else "viridis", norm=norm, aspect="auto")
    ax.set_facecolor("0.85")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xlabel=column_label, ylabel=row_label)
    if columns is not None:
        rotation = 40 if max(map(len, columns), default=0) > 3 else 0
        ax.set_xticks(range(len(columns)), columns, rotation=rotation, ha="right" if rotation else "center")
    if rows is not None:
        ax.set_yticks(range(len(rows)), rows)
    if numbers is not None:
        for (i, j), value in np.ndenumerate(matrix):
            dark = _luminance(image.cmap(norm(value))) < 0.18  # where white and black have the same contrast
            ax.text(j, i, f"{value:{numbers}}", ha="center", va="center", color="white" if dark else "black")
    return image


def _luminance(rgba: tuple[float, float, float, float]) -> float:
    """Relative luminance of an sRGB colour, from 0 (black) to 1 (white), as in WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def curve(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    *,
    label: str,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    **style,
) -> None:
    """A line, with a band from `low` to `high` for the spread."""
    (line,) = ax.plot(x, y, label=label, **style)
    if low is not None:
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def start_dots(
    ax: Axes, at: float, values: Sequence[float], *, along: str = "y", width: float = 0.3, color: str = "0.55"
) -> None:
    """What the starts of the study gave: small grey dots beside the place `at`, on the axis `along`; none without a study."""
    across = at + width * (np.arange(len(values)) * 0.618034 % 1 - 0.5)  # golden steps: neighbours never lie together
    x, y = (across, values) if along == "y" else (values, across)
    ax.plot(x, y, "o", color=color, ms=3, mew=0, alpha=0.8, zorder=1.5)


def start_band(ax: Axes, x: Sequence[float], values: Sequence[Sequence[float]], **style) -> None:
    """Behind a curve over x, what the starts of the study gave: a band from their 10 to their 90 % quantile.

    Args:
        values: for each x what the starts gave; no band where there is none.
    """
    if all(len(starts) for starts in values):
        low, high = np.quantile(np.array(values), [0.1, 0.9], axis=1)
        ax.fill_between(x, low, high, **{"color": "0.6", "alpha": 0.25, "linewidth": 0, "zorder": 1} | style)


def number(x: float, digits: int = 3) -> str:
    """So many digits; below 0.001 two at most and a power of ten."""
    return f"{x:.{digits}g}" if x >= 1e-3 or x == 0 else f"{x:.{min(digits, 2) - 1}e}"


def median_of(n: int) -> str:
    """What a title ends with that gives the medians of so many starts; nothing if there are none."""
    return f" (median of {n} starts)" if n else ""


def decades(axis: Axis) -> None:
    """A logarithmic axis that spans many powers of ten: these alone, as 0.01 or 1e-06."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def plain_ticks(axis: Axis) -> None:
    """Labels at 1, 2 and 5 of each decade of a logarithmic axis, without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def weight_bars(ax: Axes, words: Sequence[str], weights: Sequence[float], *, mark: Sequence[int]) -> None:
    """What one query looks at: a bar for each key, those numbered in `mark` blue."""
    bars = ax.barh(range(len(words)), list(weights), color=[BLUE if i in mark else GREY for i in range(len(words))])
    ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=10)
    ax.set(xlim=(0, 1.12), ylim=(len(words) - 0.5, -0.5), xlabel="weight")  # aligned with a heat map beside it
    ax.set_yticks(range(len(words)), words)
