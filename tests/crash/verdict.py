"""The judgement over a data folder: does a broker started on it keep every promise, and make nothing up?"""

from __future__ import annotations

from pathlib import Path

from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import FileSystem
from tests.crash import promises as p
from tests.crash.client import Client, FetchedLog, Refused, StoredBatch
from tests.crash.indexes import check_indexes
from tests.crash.life import NOW, start_broker
from tests.crash.transacting import OFFSETS_GROUP, heartbeat
from tests.crash.transaction_verdict import TransactionVerdict
from tests.storage.disks import HastyFileSystem


def check_promises(folder: Path, promises: p.Promises, fs: FileSystem | None = None) -> None:
    """Start on the folder, hold everything found against the promises, go on working, stop cleanly.

    Raises AssertionError that says which promise was broken, or what keeps the broker from starting.
    """
    check_served(folder, promises, fs)
    check_indexes(folder)


def check_served(folder: Path, promises: p.Promises, fs: FileSystem | None = None) -> None:
    """The same, but for the index files that nobody looked at: after a clean stop only those that are used count."""
    broker = start_broker(folder, fs or HastyFileSystem())
    try:
        with Client(broker.bootstrap) as client:
            Verdict(client, promises).check()
    finally:
        broker.stop()


def check_survivors(folder: Path, promises: p.Promises) -> None:
    """Bytes that were synced have been damaged: a start works or says what is wrong, and nothing found is made up.

    Raises AssertionError.
    """
    try:
        check_promises(folder, promises.unsecured())
    except DataFolderError as error:
        assert str(folder) in str(error), f"the message does not say where: {error}"


LOOKS = 40
"""Offsets that are fetched of a log whose content is in doubt."""


def check_alive(folder: Path, _: p.Promises) -> None:
    """Damage that nobody looks for: the broker starts or says what is wrong, and every request has an answer."""
    try:
        broker = start_broker(folder, HastyFileSystem())
    except DataFolderError as error:
        assert str(folder) in str(error), f"the message does not say where: {error}"
        return
    try:
        with Client(broker.bootstrap) as client:
            for topic in client.topics().values():
                for index in range(len(topic.partitions)):
                    _read_what_can_be_read(client, TopicPartition(topic.name, index))
    finally:
        broker.stop()


def _read_what_can_be_read(client: Client, partition: TopicPartition) -> None:
    start, end = client.offset(partition, -2), client.offset(partition, -1)
    step = max((end - start) // LOOKS, 1)  # damaged offsets may be astronomical
    for offset in {*range(start, end, step), end - 1, end}:
        try:
            client.fetch(partition, max(offset, start))
        except Refused as error:
            assert error.code is not ErrorCode.UNKNOWN_SERVER_ERROR, f"{partition} at {offset}: {error}"


def visible(properties: dict[str, str]) -> dict[str, str]:
    """What DescribeConfigs shows of them: Kafka keeps internal ones to itself."""
    return {name: value for name, value in properties.items() if not name.startswith("internal.")}


class Verdict:
    """One look at a running broker."""

    def __init__(self, client: Client, promises: p.Promises) -> None:
        self.client = client
        self.promises = promises
        self.logs: dict[TopicPartition, FetchedLog] = {}

    def check(self) -> None:
        self.check_topics()
        for topic in self.promises.topics.values():
            for partition, log in topic.logs.items():
                place = TopicPartition(topic.name, partition)
                if place in self.logs:
                    self.check_log(place, log, compacted=topic.compacted)
        self.check_offsets()
        self.check_members()
        self.check_producers()
        TransactionVerdict(self.client, self.promises).check()

    # Topics

    def check_topics(self) -> None:
        found = self.client.topics()
        for name in self.promises.gone:
            assert name not in found, f"topic {name} was deleted and is there again"
        unknown = set(found) - set(self.promises.topics) - {"__consumer_offsets", "__transaction_state"}
        assert not unknown, f"topics that nobody created: {unknown}"
        for topic in self.promises.topics.values():
            if topic.name not in found:
                assert not topic.is_certain, f"topic {topic.name} is lost"
                continue
            stored = found[topic.name]
            assert topic.topic_id in (None, stored.topic_id), f"topic {topic.name} has another id"
            assert len(stored.partitions) in topic.partitions, f"topic {topic.name} has {len(stored.partitions)}"
            properties = self.client.properties_of(topic.name)
            allowed = [visible(each) for each in topic.properties]
            assert properties in allowed, f"topic {topic.name} has {properties}, not {allowed}"
            for index in range(len(stored.partitions)):
                partition = TopicPartition(topic.name, index)
                log = self.logs[partition] = self.client.read(partition, max_bytes=700)
                assert log.high_watermark <= self.client.offset(partition, -1)
                if index not in topic.logs:
                    assert not log.data(), f"{partition} holds records that nobody sent"

    # Records

    def check_log(self, partition: TopicPartition, promise: p.LogPromise, *, compacted: bool) -> None:
        log = self.logs[partition]
        stored = log.data()
        for record in stored:
            promised = promise.offsets.get(record.offset)
            assert promised in (None, record.value), f"{partition}: offset {record.offset} was promised to another"
        values = [record.value for record in stored]
        sent: list[bytes | None] = [*promise.values]
        phantoms = set(values) - set(sent)
        assert not phantoms, f"{partition} holds what was not sent there: {phantoms}"
        if compacted:
            self._check_compacted(partition, promise, values)
        else:
            self._check_whole(partition, promise, log, values, sent)
        self._check_fetches(partition, log)

    def _check_whole(
        self,
        partition: TopicPartition,
        promise: p.LogPromise,
        log: FetchedLog,
        values: list[bytes | None],
        sent: list[bytes | None],
    ) -> None:
        assert log.start <= promise.start_at_most, f"{partition} starts at {log.start}: nobody deleted up to there"
        if not values:
            kept_from = [offset for offset, value in promise.offsets.items() if offset >= log.start]
            assert not kept_from, f"{partition} is empty and lost what was acknowledged at {min(kept_from)}"
            return
        first = sent.index(values[0])
        missing = [value for value in sent[:first] if value not in promise.refused]
        assert not missing or log.start > 0, f"{partition} lost its first {first} records"
        rest = iter(sent[first:])
        for value in values:
            passed = next((each for each in rest if each == value or each not in promise.refused), None)
            assert passed == value, f"{partition} has gaps or another order: {value!r} comes instead of {passed!r}"
        lost = set(promise.safe_values).intersection(value for value in rest if value is not None)
        assert not lost, f"{partition} lost what was acknowledged: {len(lost)} records"
        offsets = [header.base_offset for header, _ in log.batches] + [log.high_watermark]
        ends = [header.last_offset + 1 for header, _ in log.batches]
        assert offsets[1:] == ends, f"{partition}: the offsets have gaps"

    def _check_compacted(self, partition: TopicPartition, promise: p.LogPromise, values: list[bytes | None]) -> None:
        """Of each key the last promised value is there, unless a later one is."""
        order = {value: index for index, value in enumerate(promise.values)}
        indexes = [order[value] for value in values if value is not None]
        assert indexes == sorted(indexes), f"{partition} has another order"
        for key in {sending.key for sending in promise.sent}:
            safe = [s.values[-1] for s in promise.sent[: promise.safe] if s.key == key and not s.transaction]
            safe = [value for value in safe if value not in promise.refused]
            found = [order[v] for s in promise.sent if s.key == key for v in s.values if v in values]
            if safe:
                last = max(found, default=-1)
                assert last >= order[safe[-1]], f"{partition} lost the last value of key {key!r}"

    def _check_fetches(self, partition: TopicPartition, log: FetchedLog) -> None:
        """A fetch at any offset begins with the batch that holds it."""
        batches = log.batches[-12:]
        for index, (header, _) in enumerate(batches):
            for offset in {header.base_offset, header.last_offset}:
                if offset >= log.start:
                    answer = self.client.fetch(partition, offset, max_bytes=1)
                    first = int.from_bytes(bytes(answer.records)[:8], "big")
                    assert first == header.base_offset, f"{partition}: a fetch at {offset} begins at {first}"
            if index:
                assert header.base_offset > batches[index - 1].header.last_offset

    # Offsets, groups, producers

    def check_offsets(self) -> None:
        for (group, partition), promise in self.promises.offsets.items():
            topic = self.promises.topics.get(partition.topic)
            if topic is None or not topic.is_certain or group == OFFSETS_GROUP:
                continue  # offsets go with their topic; those of transactions are looked at with them
            found = self.client.committed(group, partition)
            allowed = {commit.offset for commit in promise.commits[promise.first or 0 :]}
            if promise.first is None:
                allowed.add(-1)
            assert found in allowed, f"group {group} is at {found} in {partition}; promised was one of {allowed}"

    def check_members(self) -> None:
        for member in self.promises.members.values():
            if not member.is_consumer_protocol:
                self.client.heartbeat(member.group, member.member_id, member.generation)
                continue
            plain = self.promises.topics["plain"]
            assert plain.topic_id is not None
            epoch = heartbeat(self.client, member, {"plain": plain.topic_id}, max(plain.partitions))
            assert epoch >= member.generation, f"member epoch {member.generation} went back to {epoch}"

    def check_producers(self) -> None:
        producer_id, _ = self.client.init_producer()
        assert producer_id not in self.promises.producer_ids, f"producer id {producer_id} was given twice"
        for partition, log in self.logs.items():
            last: dict[int, StoredBatch] = {}
            for batch in log.batches:
                if batch.header.producer_id >= 0 and not batch.header.is_transactional:
                    last[batch.header.producer_id] = batch
            for batch in last.values():
                self._check_producer(partition, batch)

    def _check_producer(self, partition: TopicPartition, batch: StoredBatch) -> None:
        """The producer's newest batch is recognised, a gap is refused, and the next batch is taken."""
        header, records = batch

        def produce(first_sequence: int, values: list[bytes | None]) -> int:
            records = [Record(timestamp_ms=NOW, value=value) for value in values]
            return self.client.produce(
                partition,
                bytes(
                    build_batch(
                        records,
                        producer_id=header.producer_id,
                        producer_epoch=header.producer_epoch,
                        base_sequence=first_sequence,
                    )
                ),
            )

        again = produce(header.base_sequence, [record.value for record in records])
        assert again == header.base_offset, f"{partition}: a batch sent again got offset {again}, not its first one"
        try:
            produce(header.last_sequence + 2, [b"after a gap"])
        except Refused as error:
            assert error.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        else:
            raise AssertionError(f"{partition}: a gap in the sequence was taken")
        produce(header.last_sequence + 1, [b"the next one"])
