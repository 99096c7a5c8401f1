"""`logqueue group` where topics go while it asks about them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from logqueue_api.cli.commands import group
from logqueue_api.cli.exits import CommandError, ExitCode

KEPT, GONE = TopicPartition("kept", 0), TopicPartition("gone", 0)


class LosingLog:
    """A log whose topic `gone` is deleted after topics were listed `late` times."""

    def __init__(self, *, late: int = 1) -> None:
        self._late = late
        self.admin = self

    async def topics(self) -> dict[str, list[int]]:
        self._late -= 1
        return {"kept": [1]} if self._late < 0 else {"kept": [1], "gone": [1]}

    async def offsets(self, _group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        return {KEPT: OffsetAndMetadata(3, ""), GONE: OffsetAndMetadata(3, "")}

    async def bounds(
        self, places: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        if GONE in places:
            await asyncio.get_running_loop().create_future()  # aiokafka asks again and again
        return dict.fromkeys(places, 0), dict.fromkeys(places, 5)

    async def describe_consumer_groups(self, _names: list[str]) -> list[Any]:
        return [SimpleNamespace(groups=[(0, "g", "Empty", "consumer", "", [])])]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "PATIENCE_S", (0.01, 0.01))


def test_a_topic_deleted_between_two_questions_is_left_out() -> None:
    (found,) = asyncio.run(group._groups(LosingLog(), ["g"]))  # type: ignore[arg-type]
    assert (found["lag"], [part["topic"] for part in found["partitions"]]) == (2, ["kept"])


def test_a_log_that_does_not_answer_is_said_to_be_out_of_reach() -> None:
    with pytest.raises(CommandError, match="what gone holds") as raised:
        asyncio.run(group._groups(LosingLog(late=9), ["g"]))  # type: ignore[arg-type]
    assert raised.value.code is ExitCode.UNREACHABLE
