"""Requests of one transactional id behind each other: what goes wrong with one of them is its own affair."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from logqueue.broker.broker import Broker
from logqueue.broker.coordinators.verification import Verification
from logqueue.broker.network.session import Slot
from logqueue.config import BrokerConfig
from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import RequestHeader
from tests.broker.wire import batch, produce_request


class Undecided:
    """A transaction coordinator that adds partitions when the test says so."""

    def __init__(self) -> None:
        self.coordinator = self
        self.asked: list[Callable[[ErrorCode], None]] = []
        self.is_failing = False

    def verify(self, *_: object) -> ErrorCode:
        return ErrorCode.TRANSACTION_ABORTABLE

    def verify_or_add(self, *arguments: Any) -> None:
        if self.is_failing:
            raise ValueError("a bug of the coordinator's")
        self.asked.append(arguments[-1])


def slot_of(number: int) -> Slot:
    session = SimpleNamespace(on_filled=lambda _: None, peer="127.0.0.1:1")
    return Slot(cast(Any, session), RequestHeader(ApiKey.PRODUCE, 12, number, "c"))


def transactional(sequence: int) -> Any:
    options = {"producer_id": 7, "producer_epoch": 0, "base_sequence": sequence}
    request = produce_request("t", batch(b"%d" % sequence, transactional=True, **options), acks=1)
    request.transactional_id = "tx"
    return request


def play(folder: Path, scene: Callable[[Broker, Verification, Undecided], None]) -> None:
    async def run() -> None:
        broker = Broker(BrokerConfig(data_dir=folder, port=0))
        await broker.start()
        try:
            broker.topics.create("t", partitions=1, overrides={})
            undecided = Undecided()
            scene(broker, Verification(broker, cast(Any, undecided)), undecided)
        finally:
            await broker.stop()

    asyncio.run(run())


def _break(_: object) -> object:
    raise ValueError("a bug in an answer")


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_answer_that_fails_keeps_none_behind_it_from_being_served(tmp_path: Path, broken: int) -> None:
    def scene(broker: Broker, verification: Verification, undecided: Undecided) -> None:
        slots = [slot_of(number) for number in range(4)]
        slots[broken].amend = _break
        assert [verification.admit(transactional(n), slot) for n, slot in enumerate(slots)] == [None] * 4
        (decide,) = undecided.asked
        decide(ErrorCode.NONE)
        assert all(slot.segments for slot in slots)
        assert broker.topics.partition("t", 0).log.log_end_offset == 4
        assert verification.admit(transactional(4), slot_of(4)) == {}  # nobody waits for anything any more

    play(tmp_path, scene)


def test_a_partition_that_cannot_be_asked_for_leaves_nobody_waiting(tmp_path: Path) -> None:
    def scene(broker: Broker, verification: Verification, undecided: Undecided) -> None:
        undecided.is_failing = True
        with pytest.raises(ValueError, match="a bug"):
            verification.admit(transactional(0), slot_of(0))
        undecided.is_failing = False
        slot = slot_of(1)
        assert verification.admit(transactional(0), slot) is None
        undecided.asked.pop()(ErrorCode.NONE)
        assert slot.segments

    play(tmp_path, scene)
