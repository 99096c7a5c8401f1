"""What acks=all means: one fsync for all who wait, nothing shown before it, nothing promised after one failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logqueue.storage.errors import StorageError
from logqueue.storage.log import PartitionLog
from logqueue.testing import EmbeddedBroker
from tests.broker.disks import TIMEOUT_SECONDS, Disk
from tests.broker.wire import Wire, batch, create_topic, fetch_request, produce_request, produced, values_of

PRODUCERS = 12


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def broker(disk: Disk, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path, environment=disk.environment) as running:
        yield running
        disk.let_go()


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        create_topic(connection, "t")
        yield connection


def latest(wire: Wire) -> int:
    partition = ListOffsetsPartition(partition_index=0, timestamp=-1)
    answer = wire.call(5, ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=[partition])]))
    offset: int = answer.topics[0].partitions[0].offset
    return offset


def test_one_fsync_serves_every_request_that_waits(broker: EmbeddedBroker, disk: Disk, wire: Wire) -> None:
    wire.call(9, produce_request("t", batch(b"the files are made")))
    before = disk.fdatasyncs
    while disk.reached.acquire(blocking=False):
        pass  # those of before
    disk.hold()
    wire.send(9, produce_request("t", batch(b"starts the first fsync")))
    assert disk.reached.acquire(timeout=TIMEOUT_SECONDS), "no fsync began"
    producers = [Wire(broker.bootstrap) for _ in range(PRODUCERS)]
    for n, producer in enumerate(producers):
        producer.send(9, produce_request("t", batch(b"waits %d" % n)))
        producer.send(0, ApiVersionsRequest())
    other = Wire(broker.bootstrap)
    while latest_appended(other, broker) < 2 + PRODUCERS:
        pass  # each call is a round trip through the broker, which serves the producers meanwhile
    disk.let_go()
    offsets = [producer.receive()[1].responses[0].partition_responses[0].base_offset for producer in producers]
    assert sorted(offsets) == list(range(2, 2 + PRODUCERS))
    assert disk.fdatasyncs - before == 2
    for connection in (*producers, other):
        connection.close()


def latest_appended(wire: Wire, broker: EmbeddedBroker) -> int:
    """How many records are in the log, shown or not: counted in the file."""
    wire.call(0, ApiVersionsRequest())
    data = (broker.data_dir / "t-0" / f"{0:020d}.log").read_bytes()
    return data.count(b"waits") + data.count(b"starts") + data.count(b"made")


def test_nobody_reads_a_record_before_it_is_durable(broker: EmbeddedBroker, disk: Disk, wire: Wire) -> None:
    wire.call(9, produce_request("t", batch(b"durable")))
    disk.hold()
    wire.send(9, produce_request("t", batch(b"not yet")))
    assert disk.reached.acquire(timeout=TIMEOUT_SECONDS)
    assert disk.reached.acquire(timeout=TIMEOUT_SECONDS)
    with Wire(broker.bootstrap) as reader:
        assert values_of(reader.call(11, fetch_request("t", 0))) == [b"durable"]
        assert latest(reader) == 1
        reader.call(9, produce_request("t", batch(b"acks=1 behind it"), acks=1))
        assert latest(reader) == 1
        reader.send(11, fetch_request("t", 1, max_wait_ms=60_000))
        disk.let_go()
        assert values_of(reader.receive()[1]) == [b"not yet", b"acks=1 behind it"]
        assert latest(reader) == 3
    assert wire.receive()[1].responses[0].partition_responses[0].error_code == 0


def test_what_a_checkpoint_has_flushed_before_its_round_is_shown_all_the_same(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = PartitionLog.append

    def append_and_flush(log: PartitionLog, *arguments: Any, **options: Any) -> Any:
        try:
            return append(log, *arguments, **options)
        finally:
            log.flush()  # a checkpoint or the cleaner, in its thread, before the answer is decided

    monkeypatch.setattr(PartitionLog, "append", append_and_flush)
    for number in range(2):  # the second one takes the shortcut of what repeats itself
        assert produced(wire, "t", batch(b"%d" % number)).base_offset == number
    assert values_of(wire.call(11, fetch_request("t", 0))) == [b"0", b"1"]


def test_acks_1_and_0_do_not_wait_for_the_disk(disk: Disk, wire: Wire) -> None:
    disk.hold()
    assert wire.call(9, produce_request("t", batch(b"one"), acks=1)).responses[0].partition_responses[0].error_code == 0
    wire.send(9, produce_request("t", batch(b"none"), acks=0))
    assert values_of(wire.call(11, fetch_request("t", 0))) == [b"one", b"none"]
    assert disk.fdatasyncs == 0


def test_after_a_failed_fsync_nothing_more_is_promised(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = EmbeddedBroker(tmp_path, environment=disk.environment).start()
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        break_under(wire, disk)
    critical = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(critical) == 1
    assert "mend the disk and restart" in critical[0]
    with pytest.raises(StorageError, match="mend the disk and restart"):
        broker.stop()  # not a clean one, and it says so
    with EmbeddedBroker(tmp_path) as mended, Wire(mended.bootstrap) as wire:
        assert values_of(wire.call(11, fetch_request("t", 0)))[0] == b"safe"


def break_under(wire: Wire, disk: Disk) -> None:
    wire.call(9, produce_request("t", batch(b"safe")))
    disk.is_broken = True
    refused = wire.call(9, produce_request("t", batch(b"lost"))).responses[0].partition_responses[0]
    assert refused.error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert refused.base_offset == -1
    disk.is_broken = False  # that the next fsync would work proves nothing
    for acks in (-1, 1):
        again = wire.call(9, produce_request("t", batch(b"refused"), acks=acks)).responses[0].partition_responses[0]
        assert again.error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert values_of(wire.call(11, fetch_request("t", 0))) == [b"safe"]


def test_flush_messages_makes_every_nth_record_wait_for_the_disk(disk: Disk, wire: Wire) -> None:
    config = CreatableTopicConfig(name="flush.messages", value="3")
    topic = CreatableTopic(name="often", num_partitions=1, replication_factor=1, configs=[config])
    assert wire.call(5, CreateTopicsRequest(topics=[topic])).topics[0].error_code == 0
    before = disk.fdatasyncs
    counts = []
    for n in range(6):
        wire.call(9, produce_request("often", batch(b"%d" % n), acks=1))
        counts.append(disk.fdatasyncs - before)
    assert counts[1] == 0
    assert counts[2] >= 1
    assert counts[4] == counts[2]
    assert counts[5] > counts[4]


def test_flush_ms_flushes_without_being_asked(disk: Disk, wire: Wire) -> None:
    config = CreatableTopicConfig(name="flush.ms", value="5")
    topic = CreatableTopic(name="soon", num_partitions=1, replication_factor=1, configs=[config])
    wire.call(5, CreateTopicsRequest(topics=[topic]))
    wire.call(9, produce_request("soon", batch(b"x"), acks=1))
    assert disk.reached.acquire(timeout=TIMEOUT_SECONDS)


def test_everything_is_there_after_a_restart(broker: EmbeddedBroker, wire: Wire) -> None:
    for n in range(3):
        wire.call(9, produce_request("t", batch(b"%d" % n), acks=1))
    first = wire.call(4, InitProducerIdRequest(transactional_id=None)).producer_id
    broker.restart()
    with Wire(broker.bootstrap) as again:
        assert values_of(again.call(11, fetch_request("t", 0))) == [b"0", b"1", b"2"]
        assert again.call(4, InitProducerIdRequest(transactional_id=None)).producer_id > first
    assert (broker.data_dir / "t-0").is_dir()


def test_an_idempotent_batch_sent_again_after_a_restart_keeps_its_offset(broker: EmbeddedBroker, wire: Wire) -> None:
    producer_id = wire.call(4, InitProducerIdRequest(transactional_id=None)).producer_id
    sent = batch(b"once", producer_id=producer_id, producer_epoch=0, base_sequence=0)
    first = wire.call(9, produce_request("t", sent)).responses[0].partition_responses[0]
    wire.call(9, produce_request("t", batch(b"between")))
    broker.restart()
    with Wire(broker.bootstrap) as again:
        second = again.call(9, produce_request("t", sent)).responses[0].partition_responses[0]
        assert (second.error_code, second.base_offset) == (0, first.base_offset)
        assert values_of(again.call(11, fetch_request("t", 0))) == [b"once", b"between"]
