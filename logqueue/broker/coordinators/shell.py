"""What the shells of all coordinators do: records are written and awaited, replies leave, deadlines come.

The machine decides and keeps the state; a shell of its own adds what only it wants done.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH
from logqueue.coordination.effects import Append, Caller, Now, Reply
from logqueue.errors import ErrorCode, KafkaError
from logqueue.records.builder import build_batch
from logqueue.records.record import Record
from logqueue.storage.results import Origin

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.partitions.topics import Topic

log = logging.getLogger("logqueue.broker.coordinators")


class Machine(Protocol):
    """A coordinator without IO (two today: of groups and of transactions)."""

    def on_appended(self, ticket: int, *, now: Now) -> Sequence[object]: ...

    def on_append_failed(self, ticket: int, error: ErrorCode, *, now: Now) -> Sequence[object]: ...

    def next_deadline(self) -> float | None: ...

    def on_deadline(self, *, now: Now) -> Sequence[object]: ...


M = TypeVar("M", bound=Machine)


class CoordinatorShell(Generic[M]):
    """Runs one machine, whose records go to the topic that `topic` gives, made where there is none yet."""

    def __init__(self, broker: Broker, coordinator: M, *, topic: Callable[[], Topic]) -> None:
        self.coordinator = coordinator
        self._broker = broker
        self._topic = topic
        self._timer: _Timer | None = None

    def now(self) -> Now:
        return Now.of(self._broker.clock)

    def serve(
        self,
        method: Callable[..., Sequence[object]],
        request: Any,
        slot: Slot,
        *,
        sees: Callable[[str], bool] | None = None,
        **options: Any,
    ) -> None:
        """Run one request through the coordinator; its answer comes out of the effects, now or later.

        `sees` tells the topics its sender may know of; None: all.
        """
        caller = Caller(
            token=slot,
            version=slot.api_version,
            client_id=slot.header.client_id or "",
            host=f"/{slot.session.peer_host}",
            sees=sees,
        )
        self.perform(method(request, caller=caller, now=self.now(), **options))

    # Effects

    def perform(self, effects: Iterable[object]) -> None:
        """Carry effects out in order, and those that follow from them; raise at the end what an answer failed with."""
        queue = deque(effects)
        bug: Exception | None = None
        while queue:
            match queue.popleft():
                case Reply(token, response):
                    assert isinstance(token, Slot)
                    try:
                        self._broker.answer(token, response)
                    except Exception as error:  # the machine counts on the effects behind it: appends, others' answers
                        bug = bug or error
                case Append() as append:
                    queue.extend(self._append(append))
                case effect:
                    queue.extend(self.carry_out(effect))
        self._arm_timer()
        if bug is not None:
            raise bug

    def carry_out(self, effect: object) -> Iterable[object]:
        """Do what only this coordinator wants done; effects that follow at once."""
        raise AssertionError(f"an effect that nobody carries out: {effect}")

    def _append(self, append: Append) -> Iterable[object]:
        """Write the records; effects that follow at once, if nothing has to wait for the disk."""
        commit, now, ticket = self._broker.commit, self.now(), append.ticket
        try:
            partition = self._topic().partitions[append.partition]
            batch = _batch(append, now)
            result = partition.log.append(
                batch, leader_epoch=LEADER_EPOCH, now_ms=now.time_ms, origin=Origin.COORDINATOR
            )
        except KafkaError as error:
            return self.coordinator.on_append_failed(ticket, error.code, now=now)
        except Exception:  # a bug must not keep what waits for this append waiting, nor the effects behind it
            log.exception("partition %d of a coordinator's topic took no record; please report this", append.partition)
            return self.coordinator.on_append_failed(ticket, ErrorCode.UNKNOWN_SERVER_ERROR, now=now)
        durable = append.awaited and self._broker.config.fsync_acks_all
        if not commit.settle(partition, result.base_offset, result.last_offset + 1, len(batch), durable):
            return self.coordinator.on_appended(ticket, now=now)
        commit.on_durable(lambda failure: self._on_durable(ticket, failure))
        return ()

    def _on_durable(self, ticket: int, failure: KafkaError | None) -> None:
        if failure is None:
            self.perform(self.coordinator.on_appended(ticket, now=self.now()))
        else:
            self.perform(self.coordinator.on_append_failed(ticket, failure.code, now=self.now()))

    # Time

    def _on_deadline(self) -> None:
        self.perform(self.coordinator.on_deadline(now=self.now()))

    def _arm_timer(self) -> None:
        deadline = self.coordinator.next_deadline()
        timer = self._timer
        if deadline is None or (timer is not None and not timer.is_done and timer.deadline <= deadline):
            return  # a timer that fires too early only arms the next one
        if timer is not None:
            timer.is_done = True
        self._timer = _Timer(deadline, self._on_deadline)
        delay = deadline - self._broker.clock.monotonic()
        self._broker.deadlines.push(self._broker.loop.time() + delay, self._timer)


def _batch(append: Append, now: Now) -> bytearray:
    """Coordinators write no sequence numbers; with a producer the batch counts when its transaction is committed."""
    records = [Record(timestamp_ms=now.time_ms, key=r.key, value=r.value) for r in append.records]
    if append.producer is None:
        return build_batch(records)
    producer_id, epoch = append.producer
    return build_batch(records, producer_id=producer_id, producer_epoch=epoch, transactional=True)


class _Timer:
    """The machine's next deadline."""

    __slots__ = ("_act", "deadline", "is_done")

    def __init__(self, deadline: float, act: Callable[[], None]) -> None:
        self.deadline = deadline
        self.is_done = False
        self._act = act

    def on_deadline(self) -> None:
        self.is_done = True
        self._act()
