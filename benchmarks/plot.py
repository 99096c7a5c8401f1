"""`python -m benchmarks.plot FILE.svg [NAME ...]`: the ratios to peers of saved results as one picture.

Reads `benchmarks/results/*-vs-*.txt`, or those of the names given. A bar begins at 1 and ends at the median ratio, on a
scale where twice and half are equally far; the line over it spans the smallest to the largest pair. Bars to the right
are in our favour: where less is better (times, processor time, memory) the ratio is turned over.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.report import RATIOS_HEAD

RESULTS = Path(__file__).with_name("results")
MORE_IS_BETTER = re.compile(r"/s\b")
NEITHER_IS_BETTER = re.compile(r"^ended before the kill$|^fsync of the disk")
ROW, HEADING, LABEL, SCALE, MARGIN = 18, 28, 330, 90, 60
BETTER, WORSE, INK = "#2f7d4f", "#b5483a", "#333"
MOST_DOUBLINGS = 4
"""Bars end at 16 times and at a sixteenth; the number beside them says more."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure against a peer: at least 1 is at least as good."""

    figure: str
    low: float
    median: float
    high: float


def read_ratios(text: str) -> list[Ratio]:
    """The last part of a result that was made with a peer, in our favour. Raises ValueError if there is none."""
    lines = iter(text.splitlines())
    if not any(RATIOS_HEAD in line for line in lines):
        raise ValueError("a result without a peer has no ratios")
    found: list[Ratio] = []
    for line in lines:
        *words, low, median, high = line.replace(",", "").split()
        figure = " ".join(words)
        if NEITHER_IS_BETTER.search(figure):
            continue
        values = [float(low), float(median), float(high)]
        if not MORE_IS_BETTER.search(figure):
            values = [math.inf if value == 0 else 1 / value for value in reversed(values)]
        if not found or values != [found[-1].low, found[-1].median, found[-1].high]:  # else it says the same in MB
            found.append(Ratio(figure, *values))
    return found


def draw(results: Sequence[tuple[str, Sequence[Ratio]]]) -> str:
    """One SVG with a heading and a bar for each figure of every result."""
    middle = LABEL + MOST_DOUBLINGS * SCALE
    width = middle + MOST_DOUBLINGS * SCALE + MARGIN
    parts: list[str] = []
    y = HEADING
    for heading, ratios in results:
        parts.append(_text(8, y, heading, weight="bold"))
        for ratio in ratios:
            y += ROW
            parts += _bar(ratio, y, middle)
        y += HEADING
    parts.append(f'<line x1="{middle}" y1="8" x2="{middle}" y2="{y - HEADING + 8}" stroke="{INK}"/>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _bar(ratio: Ratio, y: int, middle: int) -> list[str]:
    low, end, high = (middle + SCALE * _doublings(value) for value in (ratio.low, ratio.median, ratio.high))
    left, right = sorted((middle, end))
    colour = BETTER if ratio.median >= 1 else WORSE
    return [
        _text(16, y, ratio.figure),
        f'<rect x="{left:.1f}" y="{y - 10}" width="{right - left:.1f}" height="11" fill="{colour}"/>',
        f'<line x1="{low:.1f}" y1="{y - 4}" x2="{high:.1f}" y2="{y - 4}" stroke="{INK}"/>',
        _text(max(right, high) + 6, y, f"{ratio.median:.2g}x"),
    ]


def _doublings(value: float) -> float:
    """How often 1 has to be doubled to be the value, within the picture."""
    if value <= 0:
        return -MOST_DOUBLINGS
    return max(-MOST_DOUBLINGS, min(MOST_DOUBLINGS, math.log2(value)))


def _text(x: float, y: int, text: str, *, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{INK}" font-weight="{weight}">{escape(text)}</text>'


def main(words: Sequence[str]) -> int:
    """Draw the saved results that the words name, or all of them."""
    if not words or not words[0].endswith(".svg"):
        print("usage: python -m benchmarks.plot FILE.svg [NAME-vs-PEER ...]", file=sys.stderr)
        return 2
    files = [RESULTS / f"{name}.txt" for name in words[1:]] or sorted(RESULTS.glob("*-vs-*.txt"))
    missing = [file.stem for file in files if not file.is_file()]
    if missing or not files:
        print(
            f"no saved result: {', '.join(missing) or 'none with a peer'} (--vs PEER --save makes one)", file=sys.stderr
        )
        return 1
    try:
        results = [(file.stem.replace("-vs-", " against "), read_ratios(file.read_text())) for file in files]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    Path(words[0]).write_text(draw(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
