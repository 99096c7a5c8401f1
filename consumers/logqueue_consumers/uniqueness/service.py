"""Puts sameness into a worker: the gate at the engine's intake, the reader of what is taken beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from logqueue_consumers.uniqueness.gate import ReplacedGate, UniqueGate
from logqueue_consumers.uniqueness.loader import UniqueLoader

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue_consumers.engine import JobEngine
    from logqueue_consumers.outcome import LiveRules
    from logqueue_consumers.workbench import Workbench


def know_again(bench: Workbench, engine: JobEngine, app: App, rules: LiveRules) -> None:
    """From now on the engine knows jobs again by id, idempotency key and unique place."""
    names, group = bench.settings.topics, app.group
    is_reviewing = False

    def review() -> None:
        nonlocal is_reviewing
        is_reviewing = False
        engine.review()

    def replaced() -> None:
        nonlocal is_reviewing
        if not is_reviewing:
            is_reviewing = True
            asyncio.get_running_loop().call_soon(review)

    def first_use(gate: UniqueGate) -> None:
        engine.ended_hooks.append(gate.ended)

    loader = UniqueLoader(
        bench.settings,
        lambda queue: names.unique_spec(queue, group, partitions=app.partitions_of(queue)),
        loaded=lambda shard, places: gate.loaded(shard, places),
    )
    gate = UniqueGate(
        rules,
        names,
        group,
        clock=bench.clock,
        load=loader.load,
        recheck=engine.recheck,
        replaced=replaced,
        first_use=first_use,
    )
    engine.intake = gate
    if any(job.unique is not None and job.unique.on_conflict == "replace" for job in app.jobs.values()):
        engine.gates.append(ReplacedGate())
    bench.companions.append(loader.run)
