"""Waiting for jobs: tails `jobs.status` for the partitions that someone waits on. Shell over aiokafka."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, InvalidStatus, JobStatus, State, StatusCodec, UnknownSchemaId

from logqueue.clock import Clock
from logqueue.errors import LogqueueError
from logqueue.ids import JobId
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.errors import BrokerUnreachable, ClientClosed, WaitTimeout
from logqueue.jobs.first_record import check_same_job
from logqueue.jobs.handle import JobHandle, JobState
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings
from logqueue.jobs.steady_fetch import FetchingEnded
from logqueue.jobs.unique import KEY_WINDOW_S

MAX_REMEMBERED = 10_000  # latest statuses kept while the tail is open, so that a second wait need not read again
CLOCK_MARGIN_MS = 10_000  # how far clocks of senders and workers may differ
STATUS_TIMEOUT_S = 10.0
POLL_MS = 1_000
LINGER_S = 30.0  # the tail stays open that long after the last wait
ERROR_BACKOFF_S = 0.5
KEY_PATIENCE_S = 1.0  # how long a job with an idempotency key may take before older statuses are read for it

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Tail:
    """One partition being tailed.

    Every status since `floor_ms` has been seen, and `latest` has the newest of each job, but for jobs whose last
    status came in before `forgotten_ms`. `barriers` are those who wait for the tail to be at an offset.
    """

    floor_ms: int
    position: int
    forgotten_ms: int = 0
    barriers: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)
    latest: OrderedDict[str, tuple[JobStatus, int]] = field(default_factory=OrderedDict)

    def find(self, job_id: str) -> JobStatus | None:
        found = self.latest.get(job_id)
        return found[0] if found is not None else None

    def covers(self, created_ms: int) -> bool:
        return self.floor_ms <= created_ms - CLOCK_MARGIN_MS and self.forgotten_ms < created_ms


class StatusWatcher:
    """Answers waits from one shared tail of the status topic.

    A wait looks at statuses from the job's creation on (less CLOCK_MARGIN_MS, since clocks differ), so a job that ended
    before anyone waited is found. The tail opens with the first wait and closes LINGER_S after the last.
    """

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._topic = settings.topics.status
        self._registry = open_registry(settings)
        self._codec = StatusCodec(content_id(SCHEMA), schema_of=self._registry.schema_of)
        self._reader: AIOKafkaConsumer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._tails: dict[int, _Tail] = {}
        self._read: deque[Any] = deque()
        """Records whose statuses are not noted yet: those of one fetch at most."""
        self._waiters: dict[str, set[asyncio.Future[JobStatus]]] = {}
        self._users = 0
        self._partitions = 0
        self._idle_since = 0.0

    async def wait(self, handle: JobHandle, *, timeout_s: float) -> JobState:
        """The terminal state of a job; WaitTimeout after `timeout_s` says what was last seen of it. KeyConflict."""
        self._users += 1
        try:
            async with asyncio.timeout(timeout_s):
                status = await self._end_of(handle)
                await check_same_job(self._settings, handle, status)
                existing = _existing(handle, status)
                return JobState.of(status if existing is None else await self._end_of(existing))
        except TimeoutError:
            state = self._describe(self._tails.get(self._partition_of(handle)) if self._partitions else None, handle)
            raise WaitTimeout(f"Job {handle.id} has not ended within {timeout_s:g} s: {state}") from None
        except KafkaError as error:
            raise BrokerUnreachable(f"{self._settings.bootstrap} gave no states of jobs: {error!r}") from None
        finally:
            self._leave()

    async def _end_of(self, handle: JobHandle) -> JobStatus:
        """The terminal status. One that is older than the handle is looked for when none comes at once."""
        if handle.is_keyed:
            try:
                async with asyncio.timeout(KEY_PATIENCE_S):
                    return await self._end_since(handle, handle.created_ms)
            except TimeoutError:
                return await self._end_since(handle, handle.created_ms - round(KEY_WINDOW_S * 1000))
        return await self._end_since(handle, handle.created_ms)

    async def _end_since(self, handle: JobHandle, since_ms: int) -> JobStatus:
        tail = await self._follow(handle, since_ms)
        if handle.is_keyed:
            await self._catch_up(tail, self._partition_of(handle))
        seen = tail.find(handle.id)
        if seen is not None and seen.is_terminal:
            return seen
        if handle.is_keyed and seen is not None:
            await check_same_job(self._settings, handle, seen)  # a conflict is told before the first job ends
        return await self._next_terminal(handle.id)

    async def status(self, handle: JobHandle) -> JobState | None:
        """The newest state that the log has at this moment, or None."""
        self._users += 1
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                since_ms = handle.created_ms - (round(KEY_WINDOW_S * 1000) if handle.is_keyed else 0)
                tail = await self._follow(handle, since_ms)
                await self._catch_up(tail, self._partition_of(handle))
                seen = tail.find(handle.id)
                if seen is not None:
                    await check_same_job(self._settings, handle, seen)
        except TimeoutError:
            raise BrokerUnreachable(
                f"{self._settings.bootstrap} gave no states within {STATUS_TIMEOUT_S:g} s"
            ) from None
        finally:
            self._leave()
        return JobState.of(seen) if seen is not None else None

    def _describe(self, tail: _Tail | None, handle: JobHandle) -> str:
        if tail is None:
            return f"{self._settings.bootstrap} has not given its state"
        seen = tail.find(handle.id)
        return "no worker has begun it" if seen is None else f"it is {seen.state} (attempt {seen.attempt})"

    async def close(self) -> None:
        """End the tail; waits that are still open end with ClientClosed."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._fail(ClientClosed("The app was closed while a job was waited for"))

    def _fail(self, error: Exception) -> None:
        waiting: list[asyncio.Future[Any]] = [w for waiters in self._waiters.values() for w in waiters]
        waiting += [barrier for tail in self._tails.values() for _, barrier in tail.barriers]
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error)

    def _leave(self) -> None:
        self._users -= 1
        self._idle_since = asyncio.get_running_loop().time()

    async def _next_terminal(self, job_id: str) -> JobStatus:
        waiter: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(job_id, set())
        waiters.add(waiter)
        try:
            return await waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(job_id) is waiters:
                del self._waiters[job_id]

    def _partition_of(self, handle: JobHandle) -> int:
        key = handle.tenant if handle.key is None else handle.key
        return partition_of(key.encode(), self._partitions)

    async def _follow(self, handle: JobHandle, since_ms: int) -> _Tail:
        """The tail of the job's partition, reading (again) from before `since_ms` if that has not been seen."""
        async with self._lock:
            if self._reader is None:
                await self._open()
            assert self._reader is not None
            partition = self._partition_of(handle)
            tail = self._tails.get(partition)
            if tail is None or not tail.covers(since_ms):
                tail = await self._rewind(self._reader, partition, since_ms - CLOCK_MARGIN_MS)
            return tail

    async def _open(self) -> None:
        partitions = await ensure_topics(self._settings, [self._settings.topics.status_spec()])
        self._partitions = partitions[self._topic]
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        self._reader = reader
        task = asyncio.create_task(self._run(reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rewind(self, reader: AIOKafkaConsumer, partition: int, since_ms: int) -> _Tail:
        place = TopicPartition(self._topic, partition)
        # The end comes first: a status that is written between the two questions must not lie before it.
        end = (await reader.end_offsets([place]))[place]
        found = (await reader.offsets_for_times({place: max(0, since_ms)}))[place]
        offset = found.offset if found is not None else end
        tail = self._tails.get(partition)
        if tail is None:
            tail = self._tails[partition] = _Tail(floor_ms=since_ms, position=offset)
            self._read_tails(reader)
        else:
            tail.floor_ms, tail.forgotten_ms, tail.position = since_ms, 0, offset
            tail.latest.clear()
            reader.seek(place, offset)
        return tail

    def _read_tails(self, reader: AIOKafkaConsumer) -> None:
        positions = {TopicPartition(self._topic, p): t.position for p, t in self._tails.items()}
        reader.assign(list(positions))
        for assigned, position in positions.items():
            reader.seek(assigned, position)

    async def _catch_up(self, tail: _Tail, partition: int) -> None:
        reader = self._reader
        assert reader is not None
        place = TopicPartition(self._topic, partition)
        end = (await reader.end_offsets([place]))[place]
        if await reader.position(place) < end:
            barrier: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            tail.barriers.append((end, barrier))
            await barrier

    async def _run(self, reader: AIOKafkaConsumer) -> None:
        """Read until nobody has waited for LINGER_S. A broker that is away is waited for: waits have their own end.

        They go on with another reader where the fetching of this one has ended.
        """
        loop = asyncio.get_running_loop()
        try:
            while self._users > 0 or loop.time() - self._idle_since < LINGER_S:
                if not self._tails:
                    await asyncio.sleep(0.01)
                    continue
                try:
                    if not self._read:
                        self._fetched(await reader.getmany(timeout_ms=POLL_MS))
                    await self._take()
                    await self._release(reader)
                except (KafkaError, LogqueueError) as error:
                    log.warning("Reading %s at %s: %r", self._topic, self._settings.bootstrap, error)
                    await asyncio.sleep(ERROR_BACKOFF_S)
                    if isinstance(error, FetchingEnded):
                        reader = await self._renew(reader)
        except BrokerUnreachable as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._reader = None
            self._fail(ClientClosed("The reader of job states has ended"))
            self._tails = {}
            self._read.clear()
            await stop_client(reader, timeout_s=2.0)

    async def _renew(self, reader: AIOKafkaConsumer) -> AIOKafkaConsumer:
        """A reader in the place of this one, which reads on from where it was. BrokerUnreachable."""
        async with self._lock:  # nobody asks the old one where to begin
            await stop_client(reader, timeout_s=2.0)
            renewed: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
            self._read_tails(renewed)
            self._reader = renewed
        return renewed

    def _fetched(self, batches: dict[TopicPartition, list[Any]]) -> None:
        for place, records in batches.items():
            self._tails[place.partition].position = records[-1].offset + 1
            self._read += records

    async def _take(self) -> None:
        """Note the statuses that were read. One whose schema cannot be had at the moment is tried again, and no later
        one is read before."""
        while self._read:
            status = await self._decode(self._read[0])
            record = self._read.popleft()
            if status is not None and not status.shadow:
                self._note(self._tails[record.partition], status)

    def _note(self, tail: _Tail, status: JobStatus) -> None:
        known = tail.find(status.id)
        if known is None or status.version >= known.version:
            tail.latest[status.id] = (status, self._clock.time_ms())
            tail.latest.move_to_end(status.id)
            if status.is_terminal:
                _resolve(self._waiters.get(status.id, ()), status)
        if len(tail.latest) > MAX_REMEMBERED:
            _, (_, noted_ms) = tail.latest.popitem(last=False)
            tail.forgotten_ms = max(tail.forgotten_ms, noted_ms)

    async def _release(self, reader: AIOKafkaConsumer) -> None:
        """Let those go on who wait for an offset that has been reached; gaps (compaction) count as read."""
        for partition, tail in self._tails.items():
            if not tail.barriers:
                continue
            tail.position = await reader.position(TopicPartition(self._topic, partition))
            for offset, barrier in tail.barriers:
                if offset <= tail.position and not barrier.done():
                    barrier.set_result(None)
            tail.barriers = [pair for pair in tail.barriers if not pair[1].done()]

    async def _decode(self, record: Any) -> JobStatus | None:
        if record.value is None:
            return None
        try:
            return self._codec.decode(record.value)
        except UnknownSchemaId:
            await self._registry.refresh()
        except InvalidStatus as error:
            log.warning("%s-%d@%d: %s", record.topic, record.partition, record.offset, error)
            return None
        try:
            return self._codec.decode(record.value)
        except InvalidStatus as error:
            log.warning("%s-%d@%d: %s", record.topic, record.partition, record.offset, error)
            return None


def _existing(handle: JobHandle, status: JobStatus) -> JobHandle | None:
    """The job that holds the place of one that gave way to it, where its definition says so."""
    if status.state is not State.CANCELLED or status.details is None:
        return None
    details = msgspec.json.decode(status.details)
    if details.get("on_conflict") != "existing":
        return None
    return msgspec.structs.replace(
        handle, id=JobId(details["duplicate_of"]), created_ms=details["existing_created_ms"], is_keyed=False
    )


def _resolve(waiters: Iterable[asyncio.Future[JobStatus]], status: JobStatus) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(status)
