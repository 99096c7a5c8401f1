"""Scripts out of seeds, run until one shows a difference, which is then made as short as it can be."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fidelity.running import Difference, Log, compare
from tests.fidelity.shrink import shrink
from tests.fidelity.steps import Step, scripts

SHRINK_TRIES = 120
SCRIPTS_OF_A_SEED = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """The first script of a seed that two logs answer differently, already short."""

    seed: int
    script: list[Step]
    differences: list[Difference]

    def __str__(self) -> str:
        steps = "\n".join(f"    {step}," for step in self.script)
        found = "\n".join(str(difference) for difference in self.differences)
        return f"seed {self.seed}: after\n{steps}\nthe answers differ:\n{found}"


class _Enough(Exception):
    """The time is over."""


def search(
    ours: Log,
    theirs: Log,
    *,
    start: int,
    count: int = SCRIPTS_OF_A_SEED,
    length: int,
    seconds: float,
    names: frozenset[str] | None = None,
) -> tuple[int, Finding | None]:
    """Compare up to `count` scripts of one seed; how many there were, and the first finding."""
    deadline = time.monotonic() + seconds
    done, found = 0, None

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(scripts(length, names))
    def one(script: list[Step]) -> None:
        nonlocal done, found
        if found is not None or time.monotonic() > deadline:
            raise _Enough
        done += 1
        differences = compare(ours, theirs, script)
        if differences:
            found = (script, differences)
            raise _Enough

    try:
        one()
    except _Enough:
        pass
    if found is None:
        return done, None
    script, differences = found
    step = differences[0].step

    def fails(shorter: list[Step]) -> bool:
        if step not in shorter:
            return False
        again = compare(ours, theirs, shorter)
        return bool(again) and again[0].step == step and again[0].path == differences[0].path

    short = shrink(script, fails, tries=SHRINK_TRIES)
    return done, Finding(start, short, compare(ours, theirs, short) or differences)
