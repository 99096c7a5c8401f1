"""A key is one job from when it was sent, though the view lags behind and shows the one before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from logqueue_api.rest.known_keys import KnownKeys
from logqueue_api.rest.problems import Problem
from logqueue_consumers.view.job import FROM_STATUS, RANKS, Identity, Job, JobKey, Outcome, State

from logqueue.clock import ManualClock
from logqueue.ids import TopicPartition
from logqueue.jobs.sending import PreparedJob, prepare_job
from logqueue.jobs.unique import KEY_WINDOW_S
from tests.loops import in_loop

BEGAN_MS = 1_700_000_000_000


@dataclass
class _World:
    """A view that shows what it is given."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(time_ms=BEGAN_MS))
    shown: Job | None = None

    def __post_init__(self) -> None:
        self.keys = KnownKeys(find=lambda key: self.shown, read_value=self.read_value, clock=self.clock)

    async def read_value(self, at: TopicPartition, offset: int) -> bytes | None:
        raise AssertionError("it is known from what was sent")

    def prepare(self, value: bytes = b'{"amount":1}') -> PreparedJob:
        return prepare_job(
            type="charge", queue="bills", value=value, source="test", now_ms=BEGAN_MS, idempotency_key="k"
        )

    def ended(self, at_ms: int) -> Job:
        outcome = Outcome(0, 1, RANKS[State.SUCCEEDED], 7, State.SUCCEEDED, at_ms * 1000, "app", result=b"3")
        identity = Identity(FROM_STATUS, BEGAN_MS, "jobs.bills", 3, 99, "bills", "default")
        return Job(JobKey(self.prepare().id), "charge", identity, outcome)

    def receipt(self) -> dict[str, Any]:
        return {"id": self.prepare().id, "offset": 100}


@in_loop
async def test_a_key_sent_again_after_its_window_is_known_while_the_view_shows_the_job_before() -> None:
    world = _World()
    world.shown = world.ended(BEGAN_MS)
    world.clock.advance(KEY_WINDOW_S + 1)
    assert await world.keys.existing(world.prepare()) is None, "its window is over"
    world.keys.remember(world.prepare(), world.receipt())
    again = await world.keys.existing(world.prepare())
    assert again == {**world.receipt(), "duplicate": True, "job": None}
    with pytest.raises(Problem) as caught:
        await world.keys.existing(world.prepare(b'{"amount":2}'))
    assert caught.value.status == 409


@in_loop
async def test_a_key_is_free_again_once_the_window_after_its_end_is_over() -> None:
    world = _World()
    world.keys.remember(world.prepare(), world.receipt())
    world.shown = world.ended(BEGAN_MS + 1_000)
    world.clock.advance(1 + KEY_WINDOW_S)
    again = await world.keys.existing(world.prepare())
    assert again is not None
    assert again["job"]["state"] == "succeeded"
    world.clock.advance(0.001)
    assert await world.keys.existing(world.prepare()) is None
    world.shown = None
    assert await world.keys.existing(world.prepare()) is None, "what was sent is forgotten with it"


@in_loop
async def test_a_job_that_still_runs_keeps_its_key_however_long_ago_it_was_sent() -> None:
    world = _World()
    world.keys.remember(world.prepare(), world.receipt())
    ended = world.ended(BEGAN_MS)
    running = ended.outcome._replace(state=State.RUNNING, rank=RANKS[State.RUNNING])
    world.shown = ended._replace(outcome=running)
    world.clock.advance(3 * KEY_WINDOW_S)
    again = await world.keys.existing(world.prepare())
    assert again is not None
    assert again["job"]["state"] == "running"
