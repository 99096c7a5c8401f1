"""How jobs ended live, read from the status topic. Shell: one pass over `jobs.status`, bounded in time and in jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.job_status import TERMINAL, InvalidStatus, JobStatus, StatusCodec

from logqueue.errors import LogqueueError
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.control import read_value
from logqueue.jobs.settings import Settings
from logqueue_consumers.control.rounds import EDITED
from logqueue_consumers.replaying.compare import Ending

log = structlog.get_logger(__name__)

MAX_RECORDED = 500_000
"""Jobs whose ends are held in memory."""
SILENCE_S = 20.0
"""A log that gives nothing for so long does not answer."""
POLL_MS = 500


class NotRecorded(LogqueueError):
    """The recorded outcomes cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a live run ended, and its details."""

    ending: Ending
    details: Mapping[str, Any] = field(default_factory=dict)


async def read_recorded(
    settings: Settings,
    codec: StatusCodec,
    *,
    partitions: int,
    wants: Callable[[JobStatus], bool],
    limit: int = MAX_RECORDED,
) -> dict[str, Recorded]:
    """The last end of each live job for whose status `wants` holds, by job id.

    Not of jobs whose arguments or type an operator has changed: their first record is not what ended so.
    Raises NotRecorded, BrokerUnreachable.
    """
    at = [TopicPartition(settings.topics.status, number) for number in range(partitions)]
    latest: dict[str, JobStatus] = {}
    reader = await start_client(lambda: new_reader(settings), settings)
    try:
        reader.assign(at)
        ends = await reader.end_offsets(at)
        await reader.seek_to_beginning(*at)
        while any([await reader.position(tp) < end for tp, end in ends.items()]):
            async with asyncio.timeout(SILENCE_S):
                fetched = await _next(reader, ends)
            for records in fetched.values():
                for record in records:
                    _take(_decode(codec, record), wants, latest)
            if len(latest) > limit:
                raise NotRecorded(f"more than {limit} jobs to compare with: replay a shorter range")
    except (KafkaError, TimeoutError) as error:
        raise NotRecorded(f"the recorded outcomes cannot be read: {error!r}") from None
    finally:
        await stop_client(reader)
    ended = {id_: _recorded(status) for id_, status in latest.items() if status.state in TERMINAL}
    return {id_: recorded for id_, recorded in ended.items() if EDITED not in recorded.details}


async def _next(reader: Any, ends: Mapping[TopicPartition, int]) -> Any:
    """Records, or nothing once every partition is read: what is left of one may be control records alone."""
    while not (fetched := await reader.getmany(timeout_ms=POLL_MS)):
        if all([await reader.position(tp) >= end for tp, end in ends.items()]):
            break
    return fetched


def _decode(codec: StatusCodec, record: Any) -> JobStatus | None:
    try:
        return codec.decode(record.value) if record.value is not None else None
    except InvalidStatus as error:
        log.warning("status not understood", partition=record.partition, offset=record.offset, error=str(error))
        return None


def _take(status: JobStatus | None, wants: Callable[[JobStatus], bool], latest: dict[str, JobStatus]) -> None:
    if status is None or status.shadow or not wants(status):
        return
    known = latest.get(status.id)
    if known is None or _order(status) > _order(known):
        latest[status.id] = status


def _order(status: JobStatus) -> tuple[int, int, int, int]:
    return status.replay, status.attempt, status.rank, status.sequence


def _recorded(status: JobStatus) -> Recorded:
    error = status.error
    ending = Ending.of(status.state, result=status.result, error_type=None if error is None else error.type)
    return Recorded(ending, read_value(status.details) or {})
