"""From a drawing to bytes: one style, PNG or SVG, and the same bytes for the same drawing."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib.style
from matplotlib.figure import Figure

from lt_bench.errors import LTBenchError

FORMATS = ("svg", "png")
# Inches: one column of a paper, and two.
COLUMN, PAGE = 3.35, 7.0
# Okabe & Ito's colours, which the colour-blind tell apart; without the yellow, too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_STYLE = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "savefig.dpi": 300,
    # Glyphs as paths look the same without the font; names in the file depend on the salt.
    "svg.fonttype": "path",
    "svg.hashsalt": "lt-bench",
}
# What would tell one day or version from another.
_SILENT = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


def check_format(suffix: str) -> str:
    """``svg`` or ``png``, from a file's suffix.

    Raises:
        LTBenchError: it is another.
    """
    form = suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise LTBenchError(f"a figure is a .svg or a .png file, got {suffix or 'no suffix'!r}; change --out")
    return form


def render(draw: Callable[[], Figure], form: str) -> bytes:
    """The file of a drawing.

    Args:
        draw: draws it, under this module's style, whatever a person has set.
        form: one of :data:`FORMATS`.
    """
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE], after_reset=True):
        draw().savefig(buffer, format=form, metadata=_SILENT[form])
    return buffer.getvalue()
