"""The power goes between any two writes of sessions of transactions: who survives it can end what he has begun."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from logqueue.errors import ErrorCode
from logqueue.storage.environment import Environment
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, fetch_request
from tests.crash.disk_states import states_over_time, write_image
from tests.crash.recording import LooseFileSystem, RecordingFileSystem
from tests.crash.scratch import fast_folder
from tests.storage.disks import HastyFileSystem
from tests.transactions.power import HeldDisk
from tests.transactions.producing import TransactionalProducer, create_topics, fetch_offset, read

OK = ErrorCode.NONE
GROUP = "g"
PLACES = (("t", 0), ("t", 1), ("u", 0))
EVERY = 97
"""States apart that are tried."""
TRANSACTIONS = 3
JOURNAL_BYTES = 2000
"""Little, so that the two files take turns."""
SEED = 5
OVER = object()


@pytest.fixture
def scratch() -> Iterator[Path]:
    logging.disable(logging.CRITICAL)  # starts say what they cut; nobody reads it
    with fast_folder() as folder:
        yield folder
    logging.disable(logging.NOTSET)


@dataclass(frozen=True, slots=True)
class Told:
    """What the client of a session knows."""

    producer: tuple[int, int] = (-1, -1)
    committed: tuple[bytes, ...] = ()
    acked: tuple[bytes, ...] = ()  # in the transaction that is open
    offset: int = -1  # committed
    acked_offset: int | None = None
    is_ending: bool = False


class Session:
    """Transactions of one producer, step by step; `told` is what it has heard up to now."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.name = name
        self.told = Told()
        self._producer = TransactionalProducer(wire, name)
        self._sequences: dict[tuple[str, int], int] = {}

    def _tell(self, **changes: object) -> None:
        self.told = replace(self.told, **changes)  # type: ignore[arg-type]

    def steps(self) -> Iterator[None]:
        producer = self._producer
        assert producer.init() is OK
        self._tell(producer=(producer.producer_id, producer.epoch))
        for number in range(TRANSACTIONS):
            for place in PLACES[number:] + PLACES[: number + 1]:
                yield
                self._produce(*place, b"%s-%d-%d" % (self.name.encode(), number, len(self.told.acked)))
                if place == ("t", 1):
                    yield
                    assert producer.commit_offset(self.name, "t", number) is OK
                    self._tell(acked_offset=number)
            self._tell(is_ending=True)
            yield
            assert producer.end() is OK
            self._sequences.clear()
            self._tell(
                producer=(producer.producer_id, producer.epoch),
                committed=self.told.committed + self.told.acked,
                acked=(),
                offset=self.told.acked_offset,
                acked_offset=None,
                is_ending=False,
            )

    def _produce(self, topic: str, partition: int, value: bytes) -> None:
        sequence = self._sequences.get((topic, partition), 0)
        assert self._producer.produce(topic, value, partition=partition, sequence=sequence) is OK
        self._sequences[topic, partition] = sequence + 1
        self._tell(acked=(*self.told.acked, value))


def visible(wire: Wire) -> set[bytes | None]:
    return {value for topic, partition in PLACES for value in read(wire, topic, committed=True, partition=partition)}


def check(folder: Path, told: dict[str, Told]) -> None:
    """Start on what is left; the clients go on as those who have survived."""
    with (
        EmbeddedBroker(folder, environment=Environment(fs=HastyFileSystem())) as broker,
        Wire(broker.bootstrap) as wire,
    ):
        before = visible(wire)
        for name, each in told.items():
            assert each.is_ending or not before.intersection(each.acked), "what nobody has committed is shown"
            go_on(wire, name, each)
        after = visible(wire)
        assert all(after >= {*each.committed, *each.acked} for each in told.values()), "lost, or torn"
        for topic, partition in PLACES:
            answer = wire.call(11, fetch_request(topic, 0, partition=partition)).responses[0].partitions[0]
            assert answer.last_stable_offset == answer.high_watermark, "a transaction stays open"


def go_on(wire: Wire, name: str, told: Told) -> None:
    producer = TransactionalProducer(wire, name)
    producer.producer_id, producer.epoch = told.producer
    if told.acked:
        ended = producer.end()
        assert ended is OK, f"the transaction cannot be committed any more: {ended.name}"
    assert producer.init() is OK
    error, offset = fetch_offset(wire, name, "t", stable=True)
    allowed = {told.offset} if told.acked_offset is None else {told.acked_offset}
    if told.acked and told.acked_offset is None:
        allowed.add(told.offset + 1)  # on its way
    assert error == OK
    assert offset in allowed, f"the group is at {offset}, not at one of {allowed}"


def play(folder: Path, fs: RecordingFileSystem, *, every: int) -> int:
    """Sessions beside each other, step by step, then the states that cuts may have left; answers how many."""
    data = folder / "data"
    data.mkdir()
    environment = Environment(fs=fs, journal_bytes=JOURNAL_BYTES)
    with EmbeddedBroker(data, environment=environment) as broker, Wire(broker.bootstrap) as wire:
        create_topics(wire, "t", "u")
        sessions = [Session(wire, name) for name in ("a", "b")]
        under_way = [session.steps() for session in sessions]
        random = Random(SEED)
        while under_way:
            steps = random.choice(under_way)
            if next(steps, OVER) is OVER:
                under_way.remove(steps)
            fs.mark({session.name: session.told for session in sessions})
        journal = list(fs.journal)
    tried = 0
    for number, (event, name, image) in enumerate(states_over_time(journal, data, every=every)):
        if not isinstance(event, dict):
            continue  # before the sessions
        tried += 1
        try:
            check(write_image(image, folder / "left"), event)
        except AssertionError as error:
            raise AssertionError(f"state {number}, {name}, {event}: {error}") from error
    return tried


def test_whoever_survives_a_power_cut_can_commit_all_that_was_acknowledged_to_him(scratch: Path) -> None:
    assert play(scratch, RecordingFileSystem(), every=EVERY) > 25


def test_this_notices_a_disk_that_syncs_nothing(scratch: Path) -> None:
    with pytest.raises(AssertionError, match=r"state \d+"):
        play(scratch, LooseFileSystem(), every=EVERY)


@pytest.mark.parametrize("commit", [True, False])
def test_the_record_of_a_transaction_is_lost_and_its_data_is_not(tmp_path: Path, commit: bool) -> None:
    disk = HeldDisk()
    (tmp_path / "data").mkdir()
    with (
        EmbeddedBroker(tmp_path / "data", environment=disk.environment) as broker,
        Wire(broker.bootstrap) as wire,
    ):
        create_topics(wire, "t")
        producer = TransactionalProducer(wire, "tx")
        assert producer.init() is OK
        state = broker.data_dir / "__transaction_state-0" / f"{0:020d}.log"
        durable = state.stat().st_size
        disk.hold("__transaction_state-")
        assert producer.produce("t", b"v") is OK
        assert producer.commit_offset(GROUP, "t", 7) is OK
        left = disk.after_power_cut(tmp_path / "data", tmp_path / "left")
        assert state.stat().st_size > durable == (left / "__transaction_state-0" / state.name).stat().st_size
        disk.hold()
    with EmbeddedBroker(left) as again, Wire(again.bootstrap) as later:
        producer.wire = later
        assert producer.state() == "Ongoing"
        assert read(later, "t", committed=True) == []
        assert producer.produce("t", b"w") is OK
        assert producer.end(commit=commit) is OK
        assert read(later, "t", committed=True) == ([b"v", b"w"] if commit else [])
        assert fetch_offset(later, GROUP, "t", stable=True) == (OK, 7 if commit else -1)
