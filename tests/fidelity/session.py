"""One scripted session against one log: connections, what was learned from answers, and waiting until the log rests.

Steps name things by slots (topic `t0`, member `m1`, producer `x0`); the session knows what each stands for on its log.
"""

from __future__ import annotations

import select
import struct
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from logqueue.errors import ErrorCode
from logqueue.protocol.frames import RequestHeader, write_request
from logqueue.protocol.schema import Message
from tests.broker.wire import Wire
from tests.fidelity.messages import Names, Plain, key_of, request

CLOSED = "<connection closed>"
NO_ANSWER = "<no answer>"
BUSY = "<still waiting for an answer>"

# A client sends again after these: the log is still finding or loading a coordinator.
LOADING = {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR}
UNSETTLED = LOADING | {ErrorCode.CONCURRENT_TRANSACTIONS}
RETRY_SECONDS = 20.0
RETRY_PAUSE_SECONDS = 0.005
EXPECTED_ANSWER_SECONDS = 10.0
UNEXPECTED_ANSWER_SECONDS = 0.015
SETTLE_SECONDS = 20.0
ASIDE_SECONDS = 0.05
"""What either log may need for work that it does behind an answer."""


@dataclass(slots=True)
class Member:
    """What a member of a group knows of itself."""

    member_id: str = ""
    generation: int = -1
    instance_id: str | None = None
    protocol: str | None = None
    members: list[str] = field(default_factory=list)  # as the leader was told
    assigned: list[dict[str, Any]] | None = None  # KIP-848: the last assignment


@dataclass(slots=True)
class Producer:
    """An initialised producer."""

    producer_id: int
    epoch: int
    sequences: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(slots=True)
class Parked:
    """A request of a member that waits for others: its own connection, and what was asked."""

    connection: Wire
    api: str
    member: Member
    group: str


class Session:
    """A client of one log. `settle_seconds` is how long the log needs, at most, to let all its parts know a change."""

    def __init__(self, bootstrap: str, prefix: str, *, settle_seconds: float) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.names = Names(prefix)
        self.settle_seconds = settle_seconds
        self.step = 0
        self.members: dict[tuple[str, str], Member] = defaultdict(Member)
        self.producers: dict[str, Producer] = {}
        self.topic_ids: dict[str, bytes] = {}
        self.fetches: dict[str, tuple[int, int]] = {}  # id and next epoch of fetch sessions
        self.parked: dict[tuple[str, str], Parked] = {}
        self._wire: Wire | None = None

    def name(self, slot: str) -> str:
        """The name on the log that a slot stands for; words in angle brackets stand for names that are none."""
        special = {"<empty>": "", "<spaces>": "not a name", "<dots>": "..", "<long>": "x" * 250}
        return special.get(slot, f"{self.prefix}-{slot}")

    # Requests ---------------------------------------------------------------------------------------------------------

    def ask(self, api: str, version: int, *, again: frozenset[int] | set[ErrorCode] = LOADING, **fields: Any) -> Any:
        """Send a request and give the answer's message; CLOSED if the log ended the connection instead.

        Answers with an error of `again` are asked for again for a while, as clients do.
        """
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            answer = self._call(version, request(api, **fields))
            if isinstance(answer, str) or not again & errors_of(answer) or time.monotonic() > deadline:
                return answer
            time.sleep(RETRY_PAUSE_SECONDS)

    def tell(self, api: str, version: int, **fields: Any) -> Plain:
        """As `ask`, as plain values."""
        return self.plain(self.ask(api, version, **fields))

    def send_only(self, api: str, version: int, **fields: Any) -> None:
        """Send a request that has no answer (acks=0)."""
        message = request(api, **fields)
        header = RequestHeader(key_of(api), version, 0, "wire")
        self.wire.socket.sendall(b"".join(bytes(part) for part in write_request(header, message)))  # type: ignore[arg-type]

    def plain(self, answer: Any) -> Plain:
        """An answer as plain values."""
        return self.names.plain(answer)

    def names_of(self, member_id: str) -> str:
        """What orders members in the same way on every log."""
        return self.names.label("member", member_id)

    @property
    def wire(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(self.bootstrap)
        return self._wire

    def _call(self, version: int, message: Message) -> Any:
        try:
            return self.wire.call(version, message)
        except TimeoutError:
            self._drop()
            return NO_ANSWER
        except (EOFError, ConnectionError):
            self._drop()
            return CLOSED

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # Members ----------------------------------------------------------------------------------------------------------

    def park(self, group: str, member: str, api: str, version: int, **fields: Any) -> None:
        """Send a request that may wait for other members, on a connection of its own."""
        connection = Wire(self.bootstrap)
        connection.send(version, request(api, **fields))
        self.parked[group, member] = Parked(connection, api, self.members[group, member], self.name(group))

    def collect(self, expected: frozenset[str] | None) -> dict[str, Plain]:
        """Answers that members were waiting for and that have come by now.

        `expected` are the members that the other log answered at this step: for them it waits long, for others briefly.
        """
        answers: dict[tuple[str, str], Any] = {}
        deadline = time.monotonic() + EXPECTED_ANSWER_SECONDS
        if self.parked:
            self._fence()
        while self.parked:
            is_due = expected is not None and any(" ".join(slots) in expected for slots in self.parked)
            wait = EXPECTED_ANSWER_SECONDS if is_due else UNEXPECTED_ANSWER_SECONDS
            ready, _, _ = select.select([p.connection.socket for p in self.parked.values()], [], [], wait)
            for slots, parked in list(self.parked.items()):
                if parked.connection.socket in ready:
                    del self.parked[slots]
                    answers[slots] = self._answer(parked)
            if not ready or time.monotonic() > deadline:
                break
        for slots in sorted(answers):  # The labels of members must not depend on which answer came first.
            if self.members[slots].member_id:
                self.names.label("member", self.members[slots].member_id)
        return {" ".join(slots): self.plain(answers[slots]) for slots in sorted(answers)}

    def _fence(self) -> None:
        """A coordinator answers this after everything that it was asked before."""
        for group in {parked.group for parked in self.parked.values()}:
            self.ask("heartbeat", 3, group_id=group, generation_id=1, member_id="fence")

    def _answer(self, parked: Parked) -> Any:
        with parked.connection as connection:
            try:
                _, answer = connection.receive()
            except (EOFError, ConnectionError):
                return CLOSED
        member = parked.member
        if parked.api == "join_group":
            if answer.member_id:
                member.member_id = answer.member_id
            if answer.error_code == ErrorCode.NONE:
                member.generation = answer.generation_id
                member.protocol = answer.protocol_name
                member.members = [other.member_id for other in answer.members]
        return answer

    # Rest -------------------------------------------------------------------------------------------------------------

    def settle_topic(self, slot: str, *, partitions: int | None) -> None:
        """Wait until every part of the log serves a topic with so many partitions, or no longer knows it (None)."""
        name, deadline = self.name(slot), time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline and self._partitions(name) != partitions:
            time.sleep(RETRY_PAUSE_SECONDS)
        time.sleep(self.settle_seconds)

    def _partitions(self, name: str) -> int | None:
        answer = self.ask("metadata", 12, topics=[{"name": name}], allow_auto_topic_creation=False).topics[0]
        self.topic_ids[name] = answer.topic_id
        wanted = [{"partition_index": p.partition_index, "timestamp": -2} for p in answer.partitions]
        if not wanted:
            wanted = [{"partition_index": 0, "timestamp": -2}]
        listed = self.ask("list_offsets", 5, replica_id=-1, topics=[{"name": name, "partitions": wanted}]).topics[0]
        served = sum(1 for p in listed.partitions if p.error_code == ErrorCode.NONE)
        if served and not answer.partitions:
            return 0  # Made between the two requests: its id is not known yet.
        return served or None

    def settle(self) -> None:
        """Give the log time to let all its parts know a change."""
        time.sleep(self.settle_seconds)

    def settle_aside(self) -> None:
        """Give the log time for work that it does behind the answer, and that no answer tells the end of."""
        time.sleep(max(self.settle_seconds, ASIDE_SECONDS))

    def settle_transaction(self, transactional_id: str) -> None:
        """Wait until a transaction that ends has ended (its markers are written)."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            answer = self.ask("describe_transactions", 0, transactional_ids=[transactional_id])
            if isinstance(answer, str) or not answer.transaction_states[0].transaction_state.startswith("Prepare"):
                return
            time.sleep(RETRY_PAUSE_SECONDS)

    def close(self) -> None:
        """End all connections."""
        for parked in self.parked.values():
            with suppress(OSError):
                parked.connection.close()
        self._drop()


def errors_of(message: Any) -> set[int]:
    """Every error code inside an answer."""
    found: set[int] = set()
    for item in type(message).fields:
        value = getattr(message, item.name)
        if item.name in ("error_code", "partition_error_code"):
            found.add(value)
        elif isinstance(value, list):
            for element in value:
                if hasattr(type(element), "fields"):
                    found |= errors_of(element)
    return found


def subscription(*topics: str) -> bytes:
    """A subscription as consumers put it into JoinGroup (ConsumerProtocolSubscription, version 0)."""
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)
