"""A comparison as people read it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue_consumers.replaying.compare import ComparisonSummary, Example

SHOWN_PATHS = 10
SHOWN_DIFFERENCES = 3


def pointer(text: str) -> str:
    """A path of `--ignore`."""
    from logqueue_consumers.replaying.compare import check_pointer

    try:
        return check_pointer(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def told_comparison(found: ComparisonSummary) -> Iterator[str]:
    """The lines of a summary."""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items() if count)
    yield f"compared {found.compared} with their live runs: {counted or 'nothing to compare'}"
    for path, count in list(found.paths.items())[:SHOWN_PATHS]:
        yield f"  {path or '(all of it)'} differs in {count}"
    for example in found.examples:
        yield f"  {example.id} ({example.type or 'no type'}): {_how(example)}"


def _how(example: Example) -> str:
    if not example.differences:
        was, now = example.recorded_error or "succeeded", example.replayed_error or "succeeded"
        return f"{example.verdict.value}: {was} -> {now}"
    shown = [f"{d.path or '(all)'}: {d.recorded} -> {d.replayed}" for d in example.differences[:SHOWN_DIFFERENCES]]
    more = len(example.differences) - len(shown)
    return "; ".join(shown) + (f"; {more} more" if more else "")
