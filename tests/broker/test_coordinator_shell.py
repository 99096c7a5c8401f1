"""The shell of a coordinator carries out everything that its machine has decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from logqueue.broker.coordinators.shell import CoordinatorShell
from logqueue.broker.network.session import Slot
from logqueue.clock import ManualClock
from logqueue.coordination.effects import Append, LogRecord, Now, Reply
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import RequestHeader
from logqueue.protocol.messages.heartbeat import HeartbeatResponse


class Machine:
    def __init__(self) -> None:
        self.failed: list[int] = []

    def on_appended(self, ticket: int, *, now: Now) -> Sequence[object]:
        return []

    def on_append_failed(self, ticket: int, error: ErrorCode, *, now: Now) -> Sequence[object]:
        self.failed.append(ticket)
        return []

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, *, now: Now) -> Sequence[object]:
        return []


class Broker:
    """Cannot make an answer to the requests of some correlation ids."""

    def __init__(self, *, unanswerable: set[int]) -> None:
        self.clock = ManualClock()
        self.commit = None
        self.answered: list[int] = []
        self._unanswerable = unanswerable

    def answer(self, slot: Slot, response: object) -> None:
        number = slot.header.correlation_id
        if number in self._unanswerable:
            raise ValueError(f"no answer to {number}")
        self.answered.append(number)


def reply(number: int) -> Reply:
    header = RequestHeader(ApiKey.HEARTBEAT, 4, number, "c")
    return Reply(Slot(cast(Any, None), header), HeartbeatResponse())


def no_topic() -> Any:
    raise KafkaError("no room", code=ErrorCode.KAFKA_STORAGE_ERROR)


def test_an_answer_that_cannot_be_made_keeps_no_other_effect_from_being_carried_out_and_is_told() -> None:
    broker, machine = Broker(unanswerable={2, 3}), Machine()
    shell = CoordinatorShell(cast(Any, broker), machine, topic=no_topic)
    append = Append(ticket=7, partition=0, records=(LogRecord(b"k", b"v"),))
    with pytest.raises(ValueError, match="no answer to 2"):
        shell.perform([reply(1), reply(2), append, reply(3), reply(4)])
    assert broker.answered == [1, 4]
    assert machine.failed == [7]
