"""What the sender of one request may do. Knows no API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from logqueue.errors import KafkaError
from logqueue.protocol.schema import Message
from logqueue.security.acl import CLUSTER_NAME, Operation, ResourceType

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.security.authorizer import Authorizer

Item = TypeVar("Item")
Amend = Callable[[Any], Message]
# Nothing is refused; the response to send instead of serving; what completes the response; what ends the connection
# behind the handler, which serves what is left.
Verdict = None | Message | Amend | KafkaError


class Access:
    """The rights of a principal that connects from a host."""

    __slots__ = ("_authorizer", "_host", "_principal", "broker")

    def __init__(self, broker: Broker, authorizer: Authorizer, principal: str, host: str) -> None:
        self.broker = broker
        self._authorizer = authorizer
        self._principal = principal
        self._host = host

    def to_cluster(self, operation: Operation) -> bool:
        return self._allows(operation, ResourceType.CLUSTER, CLUSTER_NAME)

    def to_topic(self, operation: Operation, name: str) -> bool:
        return self._allows(operation, ResourceType.TOPIC, name)

    def to_group(self, operation: Operation, name: str | None) -> bool:
        return self._allows(operation, ResourceType.GROUP, name or "")

    def to_transactional_id(self, operation: Operation, name: str) -> bool:
        return self._allows(operation, ResourceType.TRANSACTIONAL_ID, name)

    def to_any_topic(self, operation: Operation) -> bool:
        return self._authorizer.allows_any(self._principal, self._host, operation, ResourceType.TOPIC)

    def operations(self, kind: ResourceType, name: str) -> int:
        """What may be done to a resource, as the bit set that clients ask for (KIP-430)."""
        return self._authorizer.operations(self._principal, self._host, kind, name)

    def name_of(self, topic_id: bytes) -> str | None:
        """The name of a topic; None if there is no topic of this id."""
        topic = self.broker.topics.by_id.get(topic_id)
        return None if topic is None else topic.name

    def to_known_topic(self, operation: Operation, name: str, topic_id: bytes, *, by_id: bool) -> bool:
        """For topics by name or by id; an id that nobody has is left to the handler, which says so."""
        if by_id:
            found = self.name_of(topic_id)
            return found is None or self.to_topic(operation, found)
        return self.to_topic(operation, name)

    def _allows(self, operation: Operation, kind: ResourceType, name: str) -> bool:
        return self._authorizer.allows(self._principal, self._host, operation, kind, name)


def adding(field: str, answers: Sequence[Any]) -> Amend:
    """What gives the handler's response the answers for what was refused, behind its own."""

    def amend(response: Any) -> Any:
        setattr(response, field, [*getattr(response, field), *answers])
        return response

    return amend


def split(items: Iterable[Item], is_allowed: Callable[[Item], bool]) -> tuple[list[Item], list[Item]]:
    """(allowed, refused), both in their order."""
    allowed: list[Item] = []
    refused: list[Item] = []
    for item in items:
        (allowed if is_allowed(item) else refused).append(item)
    return allowed, refused
