"""Fetch requests and answers of aiokafka's consumers, packed and read a partition at a time.

aiokafka's own codec goes field by field through Python: with thirty partitions that is most of what a fetch costs a
consumer. Here a partition is one `struct`, and only those are named of which there is something new: to the broker in
a fetch session (KIP-227, `fetch_session`), to aiokafka in answers that still name all. Versions 9 to 11 alone, which
differ in the end of a request and one field of an answer; where a broker has none of them, aiokafka's codec serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.protocol.fetch import FetchRequest

from logqueue.jobs.fetch_pace import FetchPace
from logqueue.jobs.fetch_session import Asked, FetchSession
from logqueue.jobs.lean_records import lean_records
from logqueue.jobs.own_request import Answer, Encoded, OwnRequest
from logqueue.jobs.quick_send import QuickSend
from logqueue.jobs.steady_fetch import News, fetch_steadily

_FETCH: Final = 1
_OLDEST, _WITH_RACK = 9, 11
_CONSUMER: Final = -1  # in the place of a replica's id
_UNKNOWN: Final = -1

_HEADER = Struct(">hhih")  # api key, version, correlation id, length of the client id
_REQUEST = Struct(">iiiibiii")  # replica, max wait, min bytes, max bytes, isolation, session id and epoch, topics
_ASKED = Struct(">iiqqi")  # partition, leader epoch, offset, log start offset, max bytes
_ANSWER = Struct(">iihii")  # correlation id, throttle time, error, session id, topics
_GIVEN = Struct(">ihqqqi")  # partition, error, high watermark, last stable offset, log start offset, aborted
_ABORTED = Struct(">qq")  # producer id, first offset
_SHORT = Struct(">h")
_INT = Struct(">i")
_INTS = Struct(">ii")

# Whether a partition's high watermark and last stable offset are known to be these.
IsKnown = Callable[[str, int, int, int], bool]
Given = tuple[str, list[tuple[Any, ...]]]


class _Prepared(OwnRequest):
    """A request in the version of its connection; its own response type, as it knows the version."""

    __slots__ = ("_asked", "_is_known", "_request", "_session", "_version")

    def __init__(
        self, request: FetchRequest, version: int, session: FetchSession, asked: Asked, known: IsKnown
    ) -> None:
        self._request = request
        self._version = version
        self._session = session
        self._asked = asked
        self._is_known = known

    def build_request_header(self, correlation_id: int, client_id: str) -> Encoded:
        request, asked, client = self._request, self._asked, client_id.encode()
        parts = [
            _HEADER.pack(_FETCH, self._version, correlation_id, len(client)),
            client,
            _REQUEST.pack(
                _CONSUMER,
                request._max_wait_ms,
                request._min_bytes,
                request._max_bytes,
                request._isolation_level,
                asked.session_id,
                asked.epoch,
                len(asked.topics),
            ),
        ]
        pack = _ASKED.pack
        for topic, partitions in asked.topics:
            parts += (_text(topic), _INT.pack(len(partitions)))
            parts += [pack(number, _UNKNOWN, offset, _UNKNOWN, size) for number, offset, size in partitions]
        parts.append(_INT.pack(len(asked.forgotten)))
        for topic, numbers in asked.forgotten:
            parts += (_text(topic), _INT.pack(len(numbers)))
            parts += map(_INT.pack, numbers)
        if self._version >= _WITH_RACK:
            parts.append(_text(request._rack_id))
        return Encoded(b"".join(parts))

    def read(self, frame: memoryview) -> Answer:
        return read_answer(frame, self._version, self._session, self._asked, self._is_known)

    def __repr__(self) -> str:
        return f"Fetch_v{self._version}"


def read_answer(frame: memoryview, version: int, session: FetchSession, asked: Asked, is_known: IsKnown) -> Answer:
    """A Fetch response with its header, as aiokafka's fetcher reads it. Raises struct.error where it is cut short."""
    _, _, failure, session_id, topic_count = _ANSWER.unpack_from(frame)
    told = session.told
    position = _ANSWER.size
    topics: list[Given] = []
    has_replica = version >= _WITH_RACK
    given, given_size = _GIVEN.unpack_from, _GIVEN.size
    for _ in range(topic_count):
        (length,) = _SHORT.unpack_from(frame, position)
        position += _SHORT.size
        topic = str(frame[position : position + length], "utf-8")
        position += length
        (partition_count,) = _INT.unpack_from(frame, position)
        position += _INT.size
        partitions: list[tuple[Any, ...]] = []
        for _ in range(partition_count):
            number, error, watermark, stable, log_start, aborted_count = given(frame, position)
            position += given_size
            aborted = None
            if aborted_count >= 0:
                end = position + aborted_count * _ABORTED.size
                aborted = list(_ABORTED.iter_unpack(frame[position:end])) if aborted_count else []
                position = end
            if has_replica:
                replica, size = _INTS.unpack_from(frame, position)
                position += _INTS.size
            else:
                (size,) = _INT.unpack_from(frame, position)
                position += _INT.size
            told[topic, number] = watermark, stable
            if size <= 0 and not error and is_known(topic, number, watermark, stable):
                continue
            end = position + max(size, 0)
            facts = number, error, watermark, stable, log_start, aborted
            records = bytes(frame[position:end])
            partitions.append((*facts, replica, records) if has_replica else (*facts, records))
            position = end
        topics.append((topic, partitions))
    session.answered(failure, session_id)
    if not failure and asked.epoch:
        topics += _told_before(version, topics, session, asked, is_known)
    return Answer(version, topics)


def _told_before(
    version: int, given: list[Given], session: FetchSession, asked: Asked, is_known: IsKnown
) -> Iterator[Given]:
    """What the broker does not repeat and aiokafka may have passed over: it drops answers for where it is no more."""
    named = {(topic, part[0]) for topic, partitions in given for part in partitions}
    for topic, wanted in asked.topics:
        for number, _, _ in wanted:
            if (topic, number) in named or (found := session.told.get((topic, number))) is None:
                continue
            if not is_known(topic, number, *found):
                facts = number, 0, *found, _UNKNOWN, None
                yield topic, [(*facts, _UNKNOWN, b"") if version >= _WITH_RACK else (*facts, b"")]


class LeanRequest:
    """A fetch on its way to a connection whose versions are not known yet."""

    __slots__ = ("_is_known", "_news", "_owner", "_request", "_session")

    def __init__(
        self,
        request: FetchRequest,
        session: FetchSession,
        owner: object,
        is_known: IsKnown,
        news: News | None = None,
    ) -> None:
        """`owner` takes the answers; another one starts without knowing of them.

        `news` is what has changed since the last request of the same owner, where that is known.
        """
        self._request = request
        self._session = session
        self._owner = owner
        self._is_known = is_known
        self._news = news

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        lowest, highest = versions.get(_FETCH, (0, 0))
        version = min(highest, _WITH_RACK)
        if version < max(lowest, _OLDEST):
            return self._request.prepare(versions)
        session, news = self._session, self._news
        if news is not None and session.is_open:
            asked = session.go_on(news)
        else:
            asked = session.ask(self._request.topics, self._owner)
        return _Prepared(self._request, version, self._session, asked, self._is_known)


def lean(consumer: AIOKafkaConsumer) -> AIOKafkaConsumer:
    """The consumer itself, whose fetches are encoded and decoded here from now on, and whose records are lean."""
    send = QuickSend(consumer._client)
    pace = FetchPace()
    sessions: dict[int, FetchSession] = {}  # by node

    def assigned() -> Any:
        subscription = consumer._subscription.subscription
        return None if subscription is None else subscription.assignment

    def is_known(topic: str, partition: int, watermark: int, stable: int) -> bool:
        assignment = assigned()
        state = None if assignment is None else assignment.state_value(TopicPartition(topic, partition))
        return state is not None and (state.highwater, state.lso) == (watermark, stable)

    async def send_lean(node: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if type(request) is FetchRequest:
            if pause_s := pace.pause_s(asyncio.get_running_loop().time()):
                await asyncio.sleep(pause_s)
            if (session := sessions.get(node)) is None:
                session = sessions[node] = FetchSession()
            return await send(node, LeanRequest(request, session, assigned(), is_known), group=group)
        return await send(node, request, group=group)

    async def send_news(node: int, request: FetchRequest, news: Callable[[], News | None]) -> Any:
        if pause_s := pace.pause_s(asyncio.get_running_loop().time()):
            await asyncio.sleep(pause_s)
        if (changed := news()) is None:
            return None
        return await send(node, LeanRequest(request, sessions[node], assigned(), is_known, changed))

    start = consumer.start

    async def start_lean() -> None:
        await start()
        fetch_steadily(consumer, send_news, sessions)

    consumer._client.send = send_lean
    consumer.start = start_lean
    return lean_records(consumer)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _SHORT.pack(len(encoded)) + encoded
