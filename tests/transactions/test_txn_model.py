"""Any order of requests, flushes, failures and crashes keeps what was promised (a small reference model)."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from logqueue.coordination.effects import Producer
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.transaction.records import decode
from logqueue.transaction.states import PREPARED, TransactionState
from logqueue.transaction.transaction import Transaction
from tests.transactions.machine import T0, T1, U0, Marker, Shell

IDS = ("a", "b")
PARTITIONS = (T0, T1, U0)
TRANSACTION = tuple[int, int]  # a producer id, and the epoch of a transaction's markers

ids = st.sampled_from(IDS)
some_partitions = st.lists(st.sampled_from(PARTITIONS), min_size=1, unique=True)


class Promises(RuleBasedStateMachine):
    """What clients were told, and what the logs hold. Producers here are as wrong as zombies can be."""

    @initialize(level=st.sampled_from([0, 1, 2]))
    def start(self, level: int) -> None:
        self.shell = Shell(version=level)
        self.shell.is_prompt = False
        self.given: dict[str, list[tuple[int, int]]] = {i: [] for i in IDS}  # every producer an id has been told
        self.asked: list[tuple[str, str, int, Any]] = []  # kind, id, token, what it was about
        self.decided: dict[TRANSACTION, bool] = {}

    def _producer(self, transactional_id: str, age: int) -> tuple[int, int]:
        """The newest producer, or one that has been fenced."""
        told = self.given[transactional_id]
        return told[max(0, len(told) - 1 - age)] if told else (4711, 0)

    # Requests

    @rule(i=ids, version=st.sampled_from([2, 4]))
    def init(self, i: str, version: int) -> None:
        self.asked.append(("init", i, self.shell.init(i, version=version), None))

    @rule(i=ids, age=st.integers(0, 2))
    def init_with_what_it_has(self, i: str, age: int) -> None:
        expected = self._producer(i, age)
        self.asked.append(("init again", i, self.shell.init(i, expected=expected), expected))

    @rule(i=ids, age=st.integers(0, 2), partitions=some_partitions)
    def add(self, i: str, age: int, partitions: list[TopicPartition]) -> None:
        producer = self._producer(i, age)
        is_fenced = self._is_fenced(i, producer)
        token = self.shell.add(producer, *partitions, transactional_id=i)
        self.asked.append(("add", i, token, (producer, partitions, is_fenced)))

    @rule(i=ids, age=st.integers(0, 2), partitions=some_partitions)
    def produce(self, i: str, age: int, partitions: list[TopicPartition]) -> None:
        producer = self._producer(i, age)
        is_fenced = self._is_fenced(i, producer)
        token = self.shell.ask(producer, *partitions, transactional_id=i)
        self.asked.append(("add", i, token, (producer, partitions, is_fenced)))

    @rule(i=ids, age=st.integers(0, 2), commit=st.booleans(), version=st.sampled_from([1, 5]))
    def end(self, i: str, age: int, commit: bool, version: int) -> None:
        producer = self._producer(i, age)
        token = self.shell.end(producer, commit=commit, transactional_id=i, version=version)
        self.asked.append(("end", i, token, (producer, commit, version)))

    # The world

    @rule()
    def flush(self) -> None:
        self.shell.step()
        self._hear()

    @rule(partition=st.sampled_from(PARTITIONS))
    def a_partition_cannot_be_written(self, partition: TopicPartition) -> None:
        self.shell.unwritable ^= {partition}

    @rule(error=st.sampled_from([ErrorCode.NONE, ErrorCode.KAFKA_STORAGE_ERROR]))
    def the_disk_is_full_or_not(self, error: ErrorCode) -> None:
        self.shell.append_error = error

    @rule(seconds=st.sampled_from([1, 15, 70]))
    def time_passes(self, seconds: int) -> None:
        self.shell.advance(seconds)
        self._hear()

    @rule(kept=st.integers(0, 3))
    def crash(self, kept: int) -> None:
        self._hear()
        self.asked.clear()  # whoever waited hears nothing any more
        self.shell.append_error = ErrorCode.NONE
        self.shell.crash(kept=kept)

    # What has been promised

    def _hear(self) -> None:
        self._read_decisions()
        waiting = []
        for kind, i, token, about in self.asked:
            if self.shell.is_waiting(token):
                waiting.append((kind, i, token, about))
            elif self.shell.error(token) is ErrorCode.NONE:
                self._believe(kind, i, token, about)
        self.asked = waiting

    def _believe(self, kind: str, i: str, token: int, about: Any) -> None:
        told = self.given[i]
        match kind:
            case "init":
                producer = self.shell.producer(token)
                assert all(producer not in others for others in self.given.values()), "an epoch was given out twice"
                told.append(producer)
            case "init again":
                producer = self.shell.producer(token)
                if producer not in told:
                    told.append(producer)
            case "add":
                producer, partitions, is_fenced = about
                assert not is_fenced
                stored = self._entry(i)
                assert producer >= (stored.producer_id, 0)
                if stored.state is TransactionState.ONGOING and (stored.producer_id, stored.epoch) == producer:
                    assert stored.partitions.issuperset(partitions)
            case "end":
                (producer_id, epoch), commit, version = about
                key = (producer_id, epoch + 1 if version >= 5 else epoch)
                assert self.decided.get(key, commit) == commit, "a client was told another end than the log's"
                assert key in self.decided
                if version >= 5:
                    following = self.shell.producer(token)
                    if following not in told:
                        told.append(following)

    def _is_fenced(self, i: str, producer: tuple[int, int]) -> bool:
        """Whether the log knows a newer epoch of the id already."""
        stored = self.shell.stored().get(i)
        return stored is not None and (stored.producer_id, stored.epoch) > producer

    def _entry(self, i: str) -> Transaction:
        return self.shell.stored()[i]

    def _read_decisions(self) -> None:
        """Take in what the durable part of the log has decided. Nothing there contradicts what was there before."""
        for record in self.shell.log[: self.shell.durable]:
            read = decode(record.key, record.value)
            assert read is not None
            transaction = read[1]
            if transaction is not None and transaction.state in PREPARED:
                key = (transaction.producer_id, transaction.epoch)
                if transaction.client_version >= 2:
                    began = Producer(transaction.producer_id, transaction.epoch - 1)
                    acked = self.shell.acked.get(began, set())
                    assert acked <= transaction.partitions, "a part that was acknowledged is not in its transaction"
                    assert self.decided.setdefault(key, transaction.commits) == transaction.commits
                else:  # with TV1 one transaction after the other has the same epoch
                    self.decided[key] = transaction.commits

    @invariant()
    def markers_follow_decisions(self) -> None:
        """No partition gets a marker that nothing has decided, and none two that contradict each other (TV2)."""
        if not hasattr(self, "shell"):
            return
        self._read_decisions()
        for markers in self.shell.markers.values():
            outcomes: dict[TRANSACTION, set[bool]] = {}
            for marker in markers:
                outcomes.setdefault((marker.producer_id, marker.epoch), set()).add(marker.commit)
            for key, seen in outcomes.items():
                assert key in self.decided, "a marker without a decision"
                if self.shell.version >= 2 and self._ends_once(key):
                    assert len(seen) == 1

    def _ends_once(self, key: TRANSACTION) -> bool:
        """Whether only TV2 ends have used this epoch: with TV1 several transactions share one."""
        records = [read[1] for r in self.shell.log if (read := decode(r.key, r.value)) is not None]
        return all(
            t.client_version >= 2
            for t in records
            if t is not None and t.state in PREPARED and (t.producer_id, t.epoch) == key
        )

    def teardown(self) -> None:
        """Once the world is well again, everything that was decided gets done, in every partition."""
        if not hasattr(self, "shell"):
            return
        shell = self.shell
        shell.unwritable, shell.append_error = set(), ErrorCode.NONE
        shell.settle_all()
        shell.advance(5)
        shell.settle_all()
        self._hear()
        assert not self.asked, "somebody waits for an answer that does not come"
        stored = shell.stored()
        assert all(transaction.state not in PREPARED for transaction in stored.values())
        for record in shell.log:
            read = decode(record.key, record.value)
            assert read is not None
            transaction = read[1]
            if transaction is not None and transaction.state in PREPARED:
                expected = Marker(transaction.producer_id, transaction.epoch, transaction.commits)
                assert all(expected in shell.markers.get(partition, []) for partition in transaction.partitions)


Promises.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
PromisesTest = Promises.TestCase
