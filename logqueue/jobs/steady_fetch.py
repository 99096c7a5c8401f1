"""Fetches of a consumer that follow one another while nothing out of the ordinary happens. Knows aiokafka's fetcher.

aiokafka's fetcher looks at every partition twice for each fetch, starts a task for it, and wakes up whoever waits
through three others: with thirty partitions most of what a lone record costs its consumer. Here the task of a fetch
goes on by itself: the next fetch names what has changed since, and who waits for records is woken by the task that has
them. Whatever is not ordinary ends that: an error, a pause, a reset, another leader, a broker without fetch sessions.
Then the task is over and aiokafka's fetcher, which never learned of these fetches, looks at everything and asks again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from logqueue.jobs.fetch_session import FetchSession, Wanted

HAND_ON_TURNS: Final = 3
"""Turns of the loop between records that are taken and the next fetch: what becomes of a lone job goes to the log
first. Both are wake-ups of the broker, and only one of them has somebody waiting."""

_NO_ERROR: Final = 0

News = Sequence[tuple[str, Sequence[Wanted]]]
# Sends a fetch to a node when its turn has come; `Steady.news` is asked then, and no answer means that it was not sent.
SendNews = Callable[[int, FetchRequest, Callable[[], News | None]], Awaitable[Any]]


class FetchingEnded(KafkaError):  # type: ignore[misc]
    """The consumer fetches nothing any more, and never will: another one has to take its place."""


class _Place(NamedTuple):
    """A partition in a request: `asked[number]` is what is wanted of it."""

    tp: TopicPartition
    state: Any
    asked: list[Wanted]
    number: int


class _Steady:
    """The partitions that one node is asked for, and the request that all its fetches are made of."""

    __slots__ = ("assignment", "leaders", "node", "places", "request", "waiter")

    def __init__(self, node: int, request: FetchRequest, assignment: Any, leaders: object) -> None:
        self.node = node
        self.request = request
        self.assignment = assignment
        self.leaders = leaders
        self.waiter: asyncio.Future[None] | None = None
        self.places: Mapping[tuple[str, int], _Place] = {
            (topic, wanted[0]): _Place(tp, assignment.state_value(tp), asked, at)
            for topic, asked in request.topics
            for at, wanted in enumerate(asked)
            for tp in (TopicPartition(topic, wanted[0]),)
        }

    def news(self) -> News | None:
        """What has changed since the last request, which says it now; None where not everything can be read on."""
        news: dict[str, list[Wanted]] = {}
        for place in self.places.values():
            tp, state, asked, at = place
            position = state._position
            if position is None or state._paused:
                return None
            number, before, size = asked[at]
            if position != before:
                asked[at] = changed = (number, position, size)
                news.setdefault(tp.topic, []).append(changed)
        return tuple(news.items())


class SteadyFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher whose tasks go on after their first fetch."""

    _send_news: SendNews
    _sessions: Mapping[int, FetchSession]
    _steady: dict[int, _Steady]
    _fetch_task: asyncio.Future[Any]

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: FetchRequest) -> bool:
        has_news: bool = await super()._proc_fetch_request(assignment, node_id, request)
        steady = _Steady(node_id, request, assignment, self._client.cluster._partitions)
        if not self._is_ordinary(steady) or not self._is_all(steady):
            return has_news
        self._steady[node_id] = steady
        try:
            if has_news:
                self._tell()
            while await self._is_drained(steady) and await self._goes_on(steady):
                pass
        except (KafkaError, asyncio.CancelledError):
            pass  # aiokafka asks again and complains itself; and where it cancels, it expects an ordinary end
        finally:
            del self._steady[node_id]
        return True

    async def close(self) -> None:
        """As aiokafka's, which ends nothing else where one of its tasks has ended with an error."""
        if self._fetch_task.done():  # whoever reads was told
            self._fetch_task = asyncio.get_running_loop().create_future()
            for task in self._pending_tasks:
                task.cancel()
            await asyncio.gather(*self._pending_tasks, return_exceptions=True)
            self._pending_tasks.clear()
        await super().close()

    def _check_fetching(self) -> None:
        """FetchingEnded where nothing is fetched any more: aiokafka would never say so."""
        task = self._fetch_task
        if not task.done() or self._closed:
            return
        error = None if task.cancelled() else task.exception()
        reason = "its task was cancelled" if error is None else repr(error.__cause__ or error)
        raise FetchingEnded(f"aiokafka fetches nothing any more: {reason}") from error

    async def _goes_on(self, steady: _Steady) -> bool:
        """One more fetch; false where it is to be the last."""
        answer = await self._send_news(
            steady.node, steady.request, lambda: steady.news() if self._is_ordinary(steady) else None
        )
        if answer is None or not steady.assignment.active:
            return False
        has_records, is_ordinary = self._take(steady, answer.topics)
        if has_records:
            self._tell()
        return is_ordinary

    def _take(self, steady: _Steady, topics: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> tuple[bool, bool]:
        """Whether there are records, and whether everything could be read."""
        has_records, is_ordinary = False, True
        now_ms = int(1000 * time.time())
        for topic, partitions in topics:
            for number, error, watermark, stable, _, aborted, *_, content in partitions:
                place = steady.places.get((topic, number))
                if place is None or error != _NO_ERROR:
                    is_ordinary = False
                    continue
                tp, state, asked, at = place
                offset = asked[at][1]
                if state._position != offset:
                    continue  # sought elsewhere meanwhile
                state.highwater, state.lso, state.timestamp = watermark, stable, now_ms
                if not content:
                    continue
                found = MemoryRecords(content)
                if not found.has_next():
                    is_ordinary = False  # a record larger than what was asked for
                    continue
                records = PartitionRecords(
                    tp, found, aborted, offset, None, None, self._check_crcs, self._isolation_level
                )
                self._records[tp] = FetchResult(
                    tp, assignment=steady.assignment, partition_records=records, backoff=self._prefetch_backoff
                )
                has_records = True
        return has_records, is_ordinary

    def _is_ordinary(self, steady: _Steady) -> bool:
        session = self._sessions.get(steady.node)
        if session is None or not session.is_open or self._closed or not steady.assignment.active:
            return False
        return bool(steady.leaders is self._client.cluster._partitions)

    def _is_all(self, steady: _Steady) -> bool:
        """Whether no partition of the node was left out of the request."""
        leader = self._client.cluster.leader_for_partition
        led = [tp for tp in steady.assignment.tps if leader(tp) == steady.node]
        return len(led) == len(steady.places)

    async def _is_drained(self, steady: _Steady) -> bool:
        """Wait until all that was fetched has been asked for; false if that takes long, as with aiokafka."""
        if not self._has_records(steady):
            return True
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._prefetch_backoff
        while self._has_records(steady):
            if loop.time() >= deadline_s:
                return False
            steady.waiter = waiter = loop.create_future()
            timer = loop.call_at(deadline_s, super()._notify, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
        for _ in range(HAND_ON_TURNS):
            await asyncio.sleep(0)
        return True

    def _has_records(self, steady: _Steady) -> bool:
        places = steady.places
        return any(tp in places for tp in self._records)  # a partition is a pair, too

    def _tell(self) -> None:
        for waiter in self._fetch_waiters:
            self._notify(waiter)

    def _notify(self, future: Any) -> None:
        """aiokafka's: `_wait_consume_future` is that something was taken, or is to be read from elsewhere."""
        if future is self._wait_consume_future and self._steady:
            for steady in self._steady.values():
                super()._notify(steady.waiter)
            if sum(len(steady.places) for steady in self._steady.values()) == len(steady.assignment.tps):
                return  # nothing that aiokafka's own task could do
        super()._notify(future)

    async def fetched_records(
        self, partitions: Sequence[TopicPartition], timeout: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """As aiokafka's, which makes a set, a task and two futures of each wait. FetchingEnded where it has ended."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout
        while True:
            self._check_fetching()
            if self._subscriptions.reassignment_in_progress:
                await self._subscriptions.wait_for_assignment()
            if self._records and (found := self._drain(partitions, max_records)):
                return found
            if not timeout or loop.time() >= deadline_s or self._closed:
                return {}
            waiter = self._create_fetch_waiter()
            timer = loop.call_at(deadline_s, super()._notify, waiter)
            try:
                await waiter
            finally:
                timer.cancel()

    def _drain(self, partitions: Sequence[TopicPartition], max_records: int | None) -> dict[TopicPartition, list[Any]]:
        """What was fetched. Where a partition cannot be read, the others come first and the error with the next call.

        As with aiokafka's errors of fetches; but where a record is damaged it raises in the midst, and what it has
        taken of other partitions until then would be passed over.
        """
        found: dict[TopicPartition, list[Any]] = {}
        for tp in list(self._records):
            if partitions and tp not in partitions:
                if not self._subscriptions.is_assigned(tp):
                    del self._records[tp]
                continue
            fetched = self._records[tp]
            if type(fetched) is not FetchResult:
                if found:
                    break
                self._let_go(tp)
                fetched.check_raise()
            try:
                records = fetched.getall(max_records)
            except Exception as error:
                if found:
                    self._records[tp] = FetchError(error=error, backoff=self._prefetch_backoff)
                    break
                self._let_go(tp)
                raise
            if not fetched.has_more():
                self._let_go(tp)
            if records:
                found[tp] = records
                if max_records is not None:
                    max_records -= len(records)
                    if max_records <= 0:
                        break
        return found

    def _let_go(self, tp: TopicPartition) -> None:
        """Fetch the partition again."""
        del self._records[tp]
        self._notify(self._wait_consume_future)


def fetch_steadily(consumer: AIOKafkaConsumer, send_news: SendNews, sessions: Mapping[int, FetchSession]) -> None:
    """From now on fetches of this consumer, which has started, follow one another by themselves."""
    fetcher = consumer._fetcher
    fetcher._steady, fetcher._sessions, fetcher._send_news = {}, sessions, send_news
    fetcher.__class__ = SteadyFetcher
