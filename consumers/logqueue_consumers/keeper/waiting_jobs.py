"""Jobs that wait for their time in `jobs.schedules`, as a machine: when each is due, and what is written then. No IO.

| what happens          | records in one transaction                                                    |
|-----------------------|-------------------------------------------------------------------------------|
| it is due very soon   | the job to its group's retry topic, a `queued` status, the tombstone          |
| it expires before     | an `expired` status, the tombstone                                            |
| it is cancelled       | a `cancelled` status, the tombstone, and the command's tombstone              |
| it is to run at once  | as if it were due now                                                         |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import structlog
from logqueue_schemas.job_status import JobStatus, State

from logqueue.errors import LogqueueError
from logqueue.jobs.control import CANCEL, Cancel
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.control.notes import encode_details, read_details
from logqueue_consumers.flows.events import flow_event
from logqueue_consumers.keeper.command_board import CommandBoard, Commands
from logqueue_consumers.keeper.index import Index, Row
from logqueue_consumers.keeper.job_entries import PREFIX, WaitingJob, read_entry
from logqueue_consumers.keeper.machine import Headers, Kept, Place
from logqueue_consumers.keeper.put_off import Pauses
from logqueue_consumers.outcome import ended_record
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

_Stored = tuple[bytes, list[tuple[str, bytes]], int]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class WaitingJobs:
    """The waiting jobs of one partition. They are tagged with their ids, so that commands find them."""

    def __init__(
        self,
        index: Index,
        place: Place,
        *,
        names: TopicNames,
        encode_status: Callable[[JobStatus], bytes],
        board: CommandBoard,
    ) -> None:
        self._index = index
        self._place = place
        self._names = names
        self._encode_status = encode_status
        self._board = board
        self._seen = 0
        """The version of the board that was looked at."""
        self._commanded: dict[bytes, None] = {}
        """Keys of jobs that wait here and that a command concerns."""
        self._pauses = Pauses()
        """Of jobs that were put off: no command hurries them."""

    def apply(self, record: Kept) -> None:
        """A job begins to wait, or ends to."""
        self._commanded.pop(record.key, None)
        self._pauses.forget(record.key)
        if record.value is None:
            self._index.delete(record.key)
            return
        job = read_entry(record.key, record.value, record.headers)
        if job is None:
            log.error("no waiting job", key=repr(record.key[:200]), offset=record.offset)
            return
        stored = _encode((record.value, list(record.headers), record.timestamp_ms))
        self._index.put(record.key, stored, due_ms=job.release_ms(since_ms=record.timestamp_ms), tag=job.id.encode())
        if self._board.stands and _concerns(self._board.commands, job, record.timestamp_ms):
            self._commanded[record.key] = None

    def next_due(self) -> int | None:
        """The earliest due time; 0 while a command is to be carried out."""
        self._look()
        return 0 if self._commanded else self._index.next_due()

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        """What to write for the jobs that are due, and for those that commands concern."""
        return [record for row in self._rows(now_ms, limit) for record in self._settle(row, now_ms)]

    def put_off(self, now_ms: int) -> None:
        """The first of the jobs that are due or commanded waits a while longer."""
        for row in self._rows(now_ms, 1):
            self._commanded.pop(row.key, None)
            with self._index.transaction():
                self._index.put_off(row.key, self._pauses.until(row.key, now_ms))

    def _rows(self, now_ms: int, limit: int) -> list[Row]:
        """Jobs that commands concern, then those that are due."""
        self._look()
        rows = {}
        for key in list(self._commanded)[:limit]:
            row = self._index.get(key)
            assert row is not None, "what is deleted is no longer commanded"
            rows[key] = row
        if len(rows) < limit:
            rows.update((row.key, row) for row in self._index.due(now_ms, limit))
        return list(rows.values())

    def _look(self) -> None:
        """Which of the jobs that wait here the commands concern that stand now."""
        version = self._board.version
        if version == self._seen:
            return
        self._seen = version
        commands = self._board.commands
        self._commanded = {}
        for job_id in (*commands.cancels, *commands.run_nows):
            for row in self._index.tagged(job_id.encode()):
                job, since_ms = self._read(row)
                if job is not None and row.key not in self._pauses and _concerns(commands, job, since_ms):
                    self._commanded[row.key] = None

    def _settle(self, row: Row, now_ms: int) -> list[Outgoing]:
        """What is written for a job whose time has come, or that a command concerns."""
        job, since_ms = self._read(row)
        if job is None:
            return [self._tombstone(row, now_ms)]
        commands = self._board.commands
        try:
            if self._board.stands and _concerns(commands, job, since_ms):
                return self._obey(row, job, commands, now_ms)
            return self._release(row, job, now_ms)
        except LogqueueError as error:
            # A queue or a group with an impossible name: no worker of ours has written it, and none could read it.
            log.error("waiting job removed: send it anew under a valid name", key=repr(row.key), reason=str(error))
            return [self._tombstone(row, now_ms)]

    def _obey(self, row: Row, job: WaitingJob, commands: Commands, now_ms: int) -> list[Outgoing]:
        cancel = commands.cancel_of(job.id, job.read.replay)
        return (
            self._cancel(row, job, cancel, now_ms)
            if cancel is not None
            else self._send_on(row, job, job.hurried_headers(now_ms=now_ms), now_ms)
        )

    def _release(self, row: Row, job: WaitingJob, now_ms: int) -> list[Outgoing]:
        expires_ms = job.read.expires_ms
        if expires_ms is not None and expires_ms <= now_ms:
            status = job.status(State.EXPIRED, now_us=now_ms * 1000)
            return [self._status(job, status, now_ms), self._tombstone(row, now_ms), *self._ended(job, status, now_ms)]
        return self._send_on(row, job, job.headers, now_ms)

    def _send_on(self, row: Row, job: WaitingJob, headers: Headers, now_ms: int) -> list[Outgoing]:
        topic = self._names.retry(job.queue, job.group)
        status = job.status(State.QUEUED, now_us=now_ms * 1000, rank=job.rank)
        return [
            Outgoing(topic, None, job.key, job.value, list(headers), now_ms),
            self._status(job, status, now_ms),
            self._tombstone(row, now_ms),
        ]

    def _cancel(self, row: Row, job: WaitingJob, cancel: Cancel, now_ms: int) -> list[Outgoing]:
        who: Mapping[str, object] = {"by": cancel.by, "at": cancel.at_ms, "reason": cancel.reason}
        details = encode_details({**(read_details(job.headers) or {}), "cancelled": who})
        status = job.status(State.CANCELLED, now_us=now_ms * 1000, details=details)
        return [
            self._status(job, status, now_ms),
            self._tombstone(row, now_ms),
            Outgoing(self._names.control, 0, (CANCEL + job.id).encode(), None, [], now_ms),
            *self._ended(job, status, now_ms),
        ]

    def _ended(self, job: WaitingJob, status: JobStatus, now_ms: int) -> list[Outgoing]:
        """A schedule or a workflow may wait for the end of this job. Its partition may be another one: it is named."""
        records: list[Outgoing] = []
        if job.read.holds is not None:
            records.append(ended_record(self._names, job.read.holds, job_id=job.id, state=status.state, at_ms=now_ms))
        if job.read.workflow is not None:
            topic = self._names.flows
            partition = partition_of(job.route, self._place.count_of(topic))
            event = flow_event(
                job.read.workflow, group=job.group, topic=topic, partition=partition, state=status.state, at_ms=now_ms
            )
            records += [event] if event is not None else []
        return records

    def _status(self, job: WaitingJob, status: JobStatus, now_ms: int) -> Outgoing:
        topic = self._names.status
        partition = partition_of(job.route, self._place.count_of(topic))
        return Outgoing(topic, partition, status.key, self._encode_status(status), [], now_ms)

    def _tombstone(self, row: Row, now_ms: int) -> Outgoing:
        return Outgoing(self._place.topic, self._place.partition, row.key, None, [], now_ms)

    @staticmethod
    def _read(row: Row) -> tuple[WaitingJob | None, int]:
        """The job, and since when it waits."""
        value, headers, since_ms = _decode(row.value)
        return read_entry(row.key, value, headers), since_ms


def _concerns(commands: Commands, job: WaitingJob, since_ms: int) -> bool:
    """Whether a command that stands is about this job, as it waits since then."""
    replay = job.read.replay
    return commands.cancel_of(job.id, replay) is not None or commands.runs_now(job.id, replay, since_ms)


def is_waiting_job(key: bytes) -> bool:
    """Whether a key of `jobs.schedules` is that of a waiting job."""
    return key.startswith(PREFIX)
