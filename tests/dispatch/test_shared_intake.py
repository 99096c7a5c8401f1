"""Intake over a log in memory, read as a member fetches it: all records are taken, once, and nobody waits long."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from logqueue_consumers.dispatch.window_share import BACK_WAIT_S
from logqueue_consumers.intake.intake import Intake
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.membership.fetching import FULL_WAIT_S
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow

from logqueue.clock import ManualClock
from logqueue.jobs.topics import TopicKind

WINDOW = 256
FETCHED = 128
STEP_S = 0.005


class Reading:
    """One partition of a queue, with what is in hand."""

    def __init__(self, tenants: list[str], *, order: str, window: int = WINDOW) -> None:
        self.log = tenants
        self.clock = ManualClock()
        self.blocked: set[str] = set()
        self.in_hand: list[Any] = []
        self.taken: dict[str, list[int]] = {}
        self.taken_at_s: dict[int, float] = {}
        self.count = 0
        self.position = 0
        self.intake = Intake(
            SimpleNamespace(read=self.read),  # type: ignore[arg-type]
            limits=replace(WorkerLimits(), max_unfinished=window, max_unfinished_per_partition=window),
            clock=self.clock,
            route=self.route,
            is_shadow=False,
        )
        self.partition = OwnedPartition(
            "jobs.q", 0, kind=TopicKind.JOBS, queue="q", order=order, window=PartitionWindow(0)
        )
        self.intake.partitions.add(self.partition)

    def block(self, *tenants: str) -> None:
        self.blocked = set(tenants)
        self.intake.is_blocked = lambda job: job.tenant in self.blocked
        self.intake.commands_changed()

    def read(self, record: Any, partition: OwnedPartition) -> Any:
        return SimpleNamespace(offset=record.offset, tenant=record.tenant, size=1, problem=None)

    def route(self, job: Any) -> None:
        self.in_hand.append(job)
        self.taken.setdefault(job.tenant, []).append(job.offset)
        self.taken_at_s[job.offset] = self.clock.monotonic()

    def fetch(self) -> float:
        """One turn of a member's fetching; how long it would wait until the next, if nothing ended meanwhile."""
        intake, partition = self.intake, self.partition
        wait_s = intake.end_waits()
        if not (intake.has_room() and intake.wants(partition)):
            return FULL_WAIT_S if wait_s is None else wait_s
        if partition.share is not None and (at := intake.turn(partition)) is not None:
            self.position = at
        end = min(len(self.log), self.position + FETCHED)
        records = [
            SimpleNamespace(offset=offset, tenant=self.log[offset], key=self.log[offset].encode())
            for offset in range(self.position, end)
        ]
        self.position = end
        if records:
            intake.deliver(partition, records)
        return 0.0

    def end(self, jobs: list[Any]) -> None:
        for job in jobs:
            self.in_hand.remove(job)
            if self.partition.share is not None:
                self.partition.share.finished(job.tenant, job.offset)
        self.count += len(jobs)
        self.partition.bytes_in_hand -= len(jobs)
        self.partition.window.finish_many([job.offset for job in jobs])
        self.intake.pump_all()

    def end_all(self, *, seconds: float) -> None:
        """Read and end what is not blocked for so long, or until everything has ended."""
        until_s = self.clock.monotonic() + seconds
        while self.count < len(self.log) and self.clock.monotonic() < until_s:
            self.fetch()
            self.end([job for job in self.in_hand if job.tenant not in self.blocked])
            self.clock.advance(STEP_S)


@pytest.mark.parametrize("order", ["tenant", "none"])
@pytest.mark.parametrize("seed", range(8))
def test_everything_is_taken_once_however_jobs_end_and_tenants_are_blocked(order: str, seed: int) -> None:
    random = Random(seed)
    tenants: list[str] = []
    while len(tenants) < 6 * WINDOW:
        tenants += random.choice("abcd") * random.choice([1, 3, 40, 200])
    reading = Reading(tenants, order=order)
    for _ in range(600):
        reading.fetch()
        if random.random() < 0.1:
            reading.block(*random.sample("abcd", random.randint(0, 2)))
        ready = [job for job in reading.in_hand if job.tenant not in reading.blocked]
        reading.end(random.sample(ready, random.randint(0, len(ready))))
        reading.clock.advance(random.choice([0.001, 0.01, 0.3]))
    reading.block()
    reading.end_all(seconds=60)
    assert reading.count == len(tenants), "nothing is left aside"
    assert reading.partition.window.commit_offset() == len(tenants)
    for offsets in reading.taken.values():
        assert len(set(offsets)) == len(offsets)
        assert order == "none" or offsets == sorted(offsets)


@pytest.mark.parametrize("order", ["tenant", "none"])
def test_what_is_aside_far_apart_is_found_though_a_reading_is_cut_short(order: str) -> None:
    reading = Reading(["a"] * 200 + ["b"] * 20_000 + ["a"] * 200, order=order)
    reading.block("a")
    reading.end_all(seconds=20)
    reading.block()
    reading.end_all(seconds=20)
    assert reading.count == len(reading.log)


@pytest.mark.parametrize("job_s", [0.1, 0.45])
def test_a_quiet_tenant_does_not_wait_for_room_of_a_loud_one(job_s: float) -> None:
    reading = Reading(["loud"] * 3_000, order="none", window=1_024)
    came_at_s: dict[int, float] = {}
    start_s = now_s = ends_s = next_quiet_s = reading.clock.monotonic()
    wakes_s = now_s
    while now_s < start_s + 20:
        now_s = reading.clock.monotonic()
        if now_s >= next_quiet_s:
            came_at_s[len(reading.log)] = now_s
            reading.log.append("quiet")
            next_quiet_s += 0.1
        if now_s >= ends_s:
            loud = [job for job in reading.in_hand if job.tenant == "loud"][:50]
            reading.end([*loud, *(job for job in reading.in_hand if job.tenant == "quiet")])
            ends_s, wakes_s = now_s + job_s, now_s
        if now_s >= wakes_s:
            wakes_s = now_s + reading.fetch()
        reading.clock.advance(0.002)
    waits = [reading.taken_at_s.get(offset, now_s) - at_s for offset, at_s in came_at_s.items() if at_s > start_s + 2]
    assert max(waits[:-10]) < BACK_WAIT_S + 0.02


def test_a_pause_is_nothing_that_a_flush_would_end() -> None:
    reading = Reading(["a"] * 1_000, order="tenant")
    for _ in range(20):
        reading.fetch()
    assert reading.intake.lacks_room(), "of short jobs more could be in hand"
    reading.block("a")
    reading.end([*reading.in_hand])
    reading.end_all(seconds=1)
    assert reading.partition.window.aside_count
    assert not reading.intake.lacks_room(), "what is in hand may not run"
    reading.intake.paused_queues = frozenset({"q"})
    assert not reading.intake.lacks_room()
