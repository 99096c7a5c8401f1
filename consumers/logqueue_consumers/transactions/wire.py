"""Requests of our own over aiokafka's connections: newer versions than it has, with its TLS and SASL. Shell.

aiokafka sends TxnOffsetCommit v0 (no generation: KIP-447 needs v3) and OffsetFetch up to v3 (no RequireStable: v7), and
hides the metadata of commits. `logqueue.protocol` has the messages in all versions; here they become what
`AIOKafkaConnection.send` expects of a request: `prepare(versions)`, and on the result `build_request_header`, `encode`,
`parse_response_header` and `RESPONSE_TYPE.decode`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from logqueue.errors import ErrorCode
from logqueue.jobs.connection import STOP_TIMEOUT_S, begun, ended
from logqueue.jobs.own_request import CORRELATION_ID_BYTES, Encoded, OwnRequest
from logqueue.jobs.quick_send import QuickSend
from logqueue.jobs.settings import Settings
from logqueue.protocol import codec
from logqueue.protocol.api import FLEXIBLE_SINCE, ApiKey
from logqueue.protocol.frames import RequestHeader, response_type, write_request
from logqueue.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.schema import Message
from logqueue.protocol.wire import skip_tags

GROUP = 0
TRANSACTION = 1
_SIZE_BYTES = 4
_SOFTWARE = "logqueue"

LOOKUP_S = 5.0
"""How long a coordinator may be missing before that is an error."""
LOOKUP_BACKOFF_S = 0.05
_NOT_YET = (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)

_CODES = frozenset(ErrorCode)

UNREACHED = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, TimeoutError, OSError)
"""No answer came: the request may have been carried out or not."""


class BrokerError(KafkaError):  # type: ignore[misc]
    """An error code in an answer."""

    def __init__(self, api: ApiKey, code: int, about: str = "") -> None:
        self.code = ErrorCode(code) if code in _CODES else ErrorCode.UNKNOWN_SERVER_ERROR
        super().__init__(f"{api.name}: {self.code.name}{' for ' + about if about else ''}")


class _Prepared(OwnRequest):
    """One of our messages in the version that its connection speaks."""

    def __init__(self, message: Message, key: int, version: int) -> None:
        self._message = message
        self._key = key
        self._version = version

    def build_request_header(self, correlation_id: int, client_id: str) -> Encoded:
        header = RequestHeader(self._key, self._version, correlation_id, client_id)
        return Encoded(b"".join(write_request(header, self._message))[_SIZE_BYTES:])  # type: ignore[arg-type]

    def read(self, frame: memoryview) -> Any:
        start = CORRELATION_ID_BYTES
        if self._key != ApiKey.API_VERSIONS and self._version >= FLEXIBLE_SINCE.get(self._key, 0):
            start = skip_tags(frame, start)
        message, _ = codec.read(response_type(self._key), self._version, frame, start)
        return message

    def __repr__(self) -> str:
        return f"{type(self._message).__name__}_v{self._version}"


class WireRequest:
    """One of our messages as an aiokafka request, in the highest version between `lowest` and `highest` there is."""

    def __init__(self, message: Message, *, lowest: int, highest: int) -> None:
        key = type(message).api_key
        assert key is not None, "only requests have a key"
        self._message = message
        self._key = key
        self._lowest = lowest
        self._highest = highest

    def prepare(self, versions: dict[int, tuple[int, int]]) -> _Prepared:
        """Choose the version; IncompatibleBrokerVersion where the broker has none of ours."""
        served = versions.get(self._key, (0, -1))
        version = min(self._highest, served[1])
        if version < max(self._lowest, served[0]):
            name = ApiKey(self._key).name
            raise IncompatibleBrokerVersion(
                f"the broker serves {name} v{served[0]} to v{served[1]}, v{self._lowest} to v{self._highest} is needed"
            )
        return _Prepared(self._message, self._key, version)


class LogClient:
    """aiokafka's client with our requests: coordinators, leaders, bounded waits."""

    def __init__(self, settings: Settings) -> None:
        self._client = AIOKafkaClient(**settings.connection(), metadata_max_age_ms=60_000)
        self._quickly = QuickSend(self._client)
        self._coordinators: dict[tuple[int, str], int] = {}

    @property
    def cluster(self) -> ClusterMetadata:
        """What is known of topics and leaders."""
        return self._client.cluster

    async def start(self) -> None:
        """Connect; aiokafka's errors where no broker answers."""
        await begun(self._client.bootstrap())

    async def stop(self) -> None:
        """Cut the connections."""
        await ended(self._client.close(), timeout_s=STOP_TIMEOUT_S)

    async def send(self, node: int, message: Message, *, lowest: int, highest: int) -> Any:
        """Send a request to a broker and await its answer. Raises `UNREACHED`, IncompatibleBrokerVersion."""
        return await self._send(node, message, lowest=lowest, highest=highest, connection=ConnectionGroup.DEFAULT)

    async def ask_coordinator(self, kind: int, key: str, message: Message, *, lowest: int, highest: int) -> Any:
        """Send a request to the coordinator of a group or transaction. Raises `UNREACHED`, BrokerError, ..."""
        node = self._coordinators.get((kind, key))
        if node is None:
            node = self._coordinators[kind, key] = await self._find_coordinator(kind, key)
        try:
            return await self._send(
                node, message, lowest=lowest, highest=highest, connection=ConnectionGroup.COORDINATION
            )
        except UNREACHED:
            self.forget_coordinator(kind, key)
            raise

    async def ask_both(
        self, coordinator: int, first: Message, second: Message, *, versions: tuple[int, int]
    ) -> tuple[Any, Any]:
        """Send two requests in one write, await both answers. Raises `UNREACHED`, IncompatibleBrokerVersion."""
        requests = [
            WireRequest(each, lowest=version, highest=version)
            for each, version in zip((first, second), versions, strict=True)
        ]
        found = await self._quickly.together(coordinator, *requests, group=ConnectionGroup.COORDINATION)
        return found[0], found[1]

    def leads_and_coordinates(self, partitions: Iterable[TopicPartition], kind: int, key: str) -> int | None:
        """The broker that leads all of these and is the coordinator; None where it is not known to be one."""
        node = self._coordinators.get((kind, key))
        leader = self.cluster.leader_for_partition
        return node if node is not None and all(leader(tp) == node for tp in partitions) else None

    def forget_coordinator(self, kind: int, key: str) -> None:
        """The coordinator has moved or cannot be reached: look it up again."""
        self._coordinators.pop((kind, key), None)

    async def leader(self, tp: TopicPartition) -> int | None:
        """The broker that leads a partition; None when nobody is known to."""
        node: int | None = self.cluster.leader_for_partition(tp)
        if node is None or node == -1:
            await self._client.add_topic(tp.topic)
            node = self.cluster.leader_for_partition(tp)
        if node is None or node == -1:
            await self.refresh()
            node = self.cluster.leader_for_partition(tp)
        return None if node == -1 else node

    async def refresh(self) -> None:
        """Ask for brokers and leaders again."""
        await self._client.force_metadata_update()

    async def api_versions(self) -> ApiVersionsResponse:
        """What some broker serves, with its finalized features (KIP-584)."""
        node = self._client.get_random_node()
        if node is None:
            raise NodeNotReadyError("no broker is known")
        request = ApiVersionsRequest(client_software_name=_SOFTWARE, client_software_version="1")
        answer: ApiVersionsResponse = await self.send(node, request, lowest=0, highest=3)
        return answer

    async def _find_coordinator(self, kind: int, key: str) -> int:
        node = self._client.get_random_node()
        if node is None:
            await self.refresh()
            raise NodeNotReadyError("no broker is known")
        request = FindCoordinatorRequest(key=key, key_type=kind)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + LOOKUP_S
        while (answer := await self.send(node, request, lowest=1, highest=3)).error_code:
            # A new log makes its coordinators' topics when the first one is asked for.
            if answer.error_code not in _NOT_YET or loop.time() >= deadline_s:
                raise BrokerError(ApiKey.FIND_COORDINATOR, answer.error_code, key)
            await asyncio.sleep(LOOKUP_BACKOFF_S)
        if self.cluster.broker_metadata(answer.node_id) is None:
            await self.refresh()
        found: int = answer.node_id
        return found

    async def _send(
        self, node: int, message: Message, *, lowest: int, highest: int, connection: ConnectionGroup
    ) -> Any:
        try:
            return await self._quickly(node, WireRequest(message, lowest=lowest, highest=highest), group=connection)
        except asyncio.IncompleteReadError as error:
            raise KafkaConnectionError(f"connection to node {node} lost: {error!r}") from None
