"""A Kafka-protocol log from the command line: bounded connecting, and the reads that commands show."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    KafkaError,
)
from aiokafka.structs import OffsetAndMetadata

from logqueue.jobs.settings import load_settings
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.reach import RETRY_SECONDS, check_entry, why_unreachable
from logqueue_api.cli.stack import Stack

CONNECT_ATTEMPTS = 4
RESTART_ATTEMPTS = 24  # where run.json says that the stack is up, the log may just be coming back
COORDINATOR_ATTEMPTS = 20
REQUEST_SECONDS = 10.0

_Result = TypeVar("_Result")


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a command's coroutine; the client's own log lines stay off the screen, its errors become messages."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    try:
        return asyncio.run(coroutine)
    except KafkaError as error:
        text = f"the log answered {type(error).__name__}: {error}"
        raise CommandError(text, code=ExitCode.FAILED) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRange:
    """The offsets that a partition holds: start <= offset < end."""

    partition: int
    start: int
    end: int
    leader: int


class Log:
    """A connection to the log for the length of one command."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.settings = load_settings(bootstrap=stack.bootstrap, request_timeout_s=REQUEST_SECONDS)
        self.admin: AIOKafkaAdminClient
        self.consumer: AIOKafkaConsumer

    async def __aenter__(self) -> Self:
        await self._reach()
        options = self.settings.connection()
        self.admin = AIOKafkaAdminClient(**options)
        self.consumer = AIOKafkaConsumer(**options, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            await self.admin.start()
            await self.consumer.start()
        except KafkaConnectionError as error:
            await self._close()
            await check_entry(self.settings)
            raise self._unreachable(str(error)) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self.consumer.stop()
        await self.admin.close()

    async def _reach(self) -> None:
        """Open and close one plain connection, a few times: the client itself would try for a long time."""
        attempts = RESTART_ATTEMPTS if self._stack.is_running else CONNECT_ATTEMPTS
        failure = await why_unreachable(self._stack.bootstrap, attempts=attempts)
        if failure is not None:
            raise self._unreachable(failure)

    def _unreachable(self, reason: str) -> CommandError:
        return CommandError(
            f"no log answers at {self._stack.bootstrap} (from {self._stack.bootstrap_source}): {reason}",
            code=ExitCode.UNREACHABLE,
            hint="is `logqueue up` or `logqueue broker` running? --bootstrap or LOGQUEUE_BOOTSTRAP says where",
        )

    async def topics(self) -> dict[str, list[int]]:
        """Every topic with its partitions' leaders, by partition number."""
        described = await self.admin.describe_topics()
        return {
            topic["topic"]: [part["leader"] for part in sorted(topic["partitions"], key=lambda p: p["partition"])]
            for topic in described
        }

    async def ranges(self, topics: Mapping[str, list[int]]) -> dict[str, list[PartitionRange]]:
        """What each partition of the topics holds, asked in two requests for all of them."""
        partitions = [
            TopicPartition(topic, number) for topic, leaders in topics.items() for number in range(len(leaders))
        ]
        if not partitions:
            return {topic: [] for topic in topics}
        starts, ends = await self.bounds(partitions)
        return {
            topic: [
                PartitionRange(
                    partition=number,
                    start=starts[TopicPartition(topic, number)],
                    end=ends[TopicPartition(topic, number)],
                    leader=leader,
                )
                for number, leader in enumerate(leaders)
            ]
            for topic, leaders in topics.items()
        }

    async def topic(self, name: str) -> list[PartitionRange]:
        """The partitions of one topic; raises CommandError (not found)."""
        known = await self.topics()
        if name not in known:
            raise CommandError(
                f"there is no topic {name!r} at {self._stack.bootstrap}",
                code=ExitCode.NOT_FOUND,
                hint=_similar(name, known) or "`logqueue topic ls` lists them",
            )
        return (await self.ranges({name: known[name]}))[name]

    async def bounds(
        self, partitions: Sequence[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Where partitions begin and end, asked in two requests for all of them."""
        # Otherwise aiokafka learns the leaders topic by topic, one metadata request and a tenth of a second for each.
        self.consumer.assign(partitions)
        self.consumer.pause(*partitions)
        starts, ends = await asyncio.gather(
            self.consumer.beginning_offsets(partitions), self.consumer.end_offsets(partitions)
        )
        return dict(starts), dict(ends)

    async def offsets_at(self, topic: str, parts: Sequence[PartitionRange], place: int | datetime) -> dict[int, int]:
        """The offset of a place in each partition, kept within what the partition holds."""
        if isinstance(place, int):
            return {part.partition: min(max(place, part.start), part.end) for part in parts}
        asked = {TopicPartition(topic, part.partition): round(place.timestamp() * 1000) for part in parts}
        found = await self.consumer.offsets_for_times(asked)
        at = {tp.partition: where.offset for tp, where in found.items() if where is not None}
        return {part.partition: at.get(part.partition, part.end) for part in parts}

    async def offsets(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a group has committed; a cluster that has just begun may need a moment to name a coordinator."""
        for attempt in range(1, COORDINATOR_ATTEMPTS + 1):
            try:
                found: dict[TopicPartition, OffsetAndMetadata] = await self.admin.list_consumer_group_offsets(group)
            except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
                if attempt == COORDINATOR_ATTEMPTS:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return found
        raise AssertionError("the last attempt returns or raises")

    async def configs(self, topic: str) -> list[dict[str, Any]]:
        """The configuration of a topic: name, value, and whether it was set on the topic itself."""
        answers = await self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        entries = []
        for answer in answers:
            for _code, _message, _type, _name, configs in answer.resources:
                entries += [{"name": entry[0], "value": entry[1], "source": entry[3]} for entry in configs]
        return entries


def _similar(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(close)}?" if close else ""
