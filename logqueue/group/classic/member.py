"""One member of a classic group, and the requests of it that wait. Knows nothing of the group around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from logqueue.coordination.effects import Caller


class Protocol(NamedTuple):
    """An assignment protocol that a member speaks, with what it says of itself in it (opaque bytes)."""

    name: str
    metadata: bytes


class Member:
    """A member: who it is, what it speaks, what it was assigned, and the join or sync it waits for."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "member_id",
        "parked_join",
        "parked_sync",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
    )

    def __init__(
        self,
        *,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: tuple[Protocol, ...],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.parked_join: Caller | None = None
        self.parked_sync: Caller | None = None
        self.is_new = False  # its first join is not answered yet, so it cannot heartbeat

    @property
    def is_static(self) -> bool:
        """Whether it has an instance id (KIP-345) and so may be away without losing its place."""
        return self.instance_id is not None

    @property
    def is_waiting(self) -> bool:
        """Whether a parked request proves that it is alive. A new member's does not: the client may have gone."""
        return not self.is_new and (self.parked_join is not None or self.parked_sync is not None)

    @property
    def protocol_names(self) -> set[str]:
        """The protocols it speaks."""
        return {name for name, _ in self.protocols}

    def metadata(self, protocol: str) -> bytes:
        """What it says of itself in `protocol`, which it must speak."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        raise AssertionError(f"member {self.member_id} does not speak {protocol}")

    def vote(self, candidates: Iterable[str]) -> str:
        """Its most preferred protocol among those that every member speaks."""
        allowed = set(candidates)
        return next(name for name, _ in self.protocols if name in allowed)

    def renamed(self, member_id: str) -> Member:
        """The same static member under a new id, with nothing parked."""
        return Member(
            member_id=member_id,
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            session_timeout_ms=self.session_timeout_ms,
            protocols=self.protocols,
            assignment=self.assignment,
        )
