"""Markers that a durable decision owes: seen at once, and written again at a start if the power has taken them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from logqueue.broker.coordinators.transactions import MARKER_BYTES
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from logqueue.storage.environment import Environment
from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import Buffer, RealFileSystem
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, fetch_request, produce_request
from tests.transactions.power import HeldDisk
from tests.transactions.producing import TransactionalProducer, create_topics, fetch_offset, read, until

OK = ErrorCode.NONE
GROUP = "g"
STATE, TOPIC, OFFSETS = "__transaction_state-", "t-", "__consumer_offsets-"


@pytest.fixture
def disk() -> HeldDisk:
    return HeldDisk()


@pytest.fixture
def broker(disk: HeldDisk, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    (tmp_path / "data").mkdir()
    with EmbeddedBroker(tmp_path / "data", environment=disk.environment) as running:
        yield running
        disk.hold()


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        create_topics(connection, "t")
        yield connection


@pytest.fixture
def reader(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        yield connection


def begun(wire: Wire, name: str = "tx", *values: bytes, version: int = 12) -> TransactionalProducer:
    producer = TransactionalProducer(wire, name)
    assert producer.init() is OK
    if version < 12:
        assert producer.add("t") is OK
    assert producer.produce("t", *(values or (b"v",)), version=version) is OK
    return producer


def send_end(producer: TransactionalProducer, *, commit: bool, version: int = 5) -> None:
    request = EndTxnRequest(
        transactional_id=producer.transactional_id,
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        committed=commit,
    )
    producer.wire.send(version, request)


def ends(wire: Wire) -> tuple[int, int]:
    """High watermark and last stable offset."""
    request = fetch_request("t", 0)
    request.isolation_level = 1
    answer = wire.call(11, request).responses[0].partitions[0]
    return answer.high_watermark, answer.last_stable_offset


@pytest.mark.parametrize(("version", "end_version"), [(9, 3), (12, 5)])
@pytest.mark.parametrize("commit", [True, False])
def test_a_marker_is_seen_before_it_is_durable_and_is_there_again_after_a_power_cut(
    disk: HeldDisk, wire: Wire, reader: Wire, tmp_path: Path, version: int, end_version: int, commit: bool
) -> None:
    producer = begun(wire, version=version)
    disk.hold(TOPIC)
    waiting = fetch_request("t", 1, max_wait_ms=60_000)
    waiting.isolation_level = 1
    reader.send(11, waiting)
    send_end(producer, commit=commit, version=end_version)
    woken = reader.receive()[1].responses[0].partitions[0]
    assert (woken.high_watermark, woken.last_stable_offset) == (2, 2)
    assert read(reader, "t", committed=True) == ([b"v"] if commit else [])
    disk.await_fsync(TOPIC)
    other = TransactionalProducer(reader, "tx")
    assert other.state() == ("PrepareCommit" if commit else "PrepareAbort"), "the end is not answered before its fsync"
    left = disk.after_power_cut(tmp_path / "data", tmp_path / "left")
    assert b"v" in next((left / "t-0").glob("*.log")).read_bytes()
    with EmbeddedBroker(left) as again, Wire(again.bootstrap) as later:
        assert ends(later) == (2, 2), "who has read up to 2 can go on there"
        assert later.call(9, produce_request("t", batch(b"next"))).responses[0].partition_responses[0].base_offset == 2
        assert read(later, "t", committed=True) == ([b"v", b"next"] if commit else [b"next"])
        other.wire = later
        until(lambda: other.state() == ("CompleteCommit" if commit else "CompleteAbort"))
    disk.hold()
    assert wire.receive()[1].error_code == OK


def test_a_record_that_is_not_durable_holds_back_the_marker_behind_it(
    disk: HeldDisk, wire: Wire, broker: EmbeddedBroker, reader: Wire
) -> None:
    producer = begun(wire)
    disk.hold(STATE)
    send_end(producer, commit=True)
    disk.await_fsync(STATE)
    with Wire(broker.bootstrap) as plain:
        plain.send(9, produce_request("t", batch(b"plain")))
        until(lambda: _appended(broker, b"plain"))
        disk.hold(TOPIC)
        disk.await_fsync(TOPIC)
        assert ends(reader) == (1, 0)
        disk.hold()
        assert plain.receive()[1].responses[0].partition_responses[0].error_code == OK
    assert wire.receive()[1].error_code == OK
    assert ends(reader) == (3, 3)
    assert read(reader, "t", committed=True) == [b"v", b"plain"]


def _appended(broker: EmbeddedBroker, value: bytes) -> bool:
    return value in (broker.data_dir / "t-0" / f"{0:020d}.log").read_bytes()


def test_two_transactions_that_end_at_once_are_both_seen_and_both_there_after_a_power_cut(
    disk: HeldDisk, wire: Wire, broker: EmbeddedBroker, reader: Wire, tmp_path: Path
) -> None:
    with Wire(broker.bootstrap) as second, Wire(broker.bootstrap) as third:
        one, two = begun(wire, "one", b"1"), begun(second, "two", b"2")
        last = begun(third, "last", b"3")
        state = broker.data_dir / "__transaction_state-0" / f"{0:020d}.log"
        begun_at = state.stat().st_size
        disk.hold(STATE)
        send_end(last, commit=True)  # a round of its own, behind which the two others gather
        disk.await_fsync(STATE)
        decided_at = state.stat().st_size
        send_end(one, commit=False)
        send_end(two, commit=True)
        almost_two = 2 * (decided_at - begun_at) - 10  # their names are shorter
        until(lambda: state.stat().st_size >= decided_at + almost_two)
        disk.hold(TOPIC)
        disk.await_fsync(TOPIC)
        until(lambda: ends(reader)[0] == 4)
        disk.hold(TOPIC)  # lets this round go, and waits with the next
        until(lambda: ends(reader) == (6, 6))
        left = disk.after_power_cut(tmp_path / "data", tmp_path / "left")
        disk.hold()
        assert {connection.receive()[1].error_code for connection in (wire, second, third)} == {OK}
    with EmbeddedBroker(left) as again, Wire(again.bootstrap) as later:
        assert ends(later)[1] >= 6
        assert read(later, "t", committed=True) == [b"2", b"3"]


def marker_of(producer: TransactionalProducer) -> WritableTxnMarker:
    return WritableTxnMarker(
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        transaction_result=True,
        topics=[WritableTxnMarkerTopic(name="t", partition_indexes=[0])],
        coordinator_epoch=0,
    )


def test_a_marker_that_another_has_decided_is_hidden_until_it_is_durable(
    disk: HeldDisk, wire: Wire, reader: Wire
) -> None:
    producer = begun(wire)
    disk.hold(TOPIC)
    wire.send(1, WriteTxnMarkersRequest(markers=[marker_of(producer)]))
    disk.await_fsync(TOPIC)
    assert ends(reader) == (1, 0)
    disk.hold()
    wire.receive()
    assert ends(reader) == (2, 2)


def test_all_markers_of_a_request_are_hidden_until_they_are_durable(
    disk: HeldDisk, wire: Wire, broker: EmbeddedBroker, reader: Wire
) -> None:
    with Wire(broker.bootstrap) as plain:
        markers = [marker_of(begun(wire, name)) for name in ("one", "two")]
        disk.hold(TOPIC)
        plain.send(9, produce_request("t", batch(b"plain")))
        disk.await_fsync(TOPIC)
        log = broker.data_dir / "t-0" / f"{0:020d}.log"
        with_both = log.stat().st_size + 2 * MARKER_BYTES
        wire.send(1, WriteTxnMarkersRequest(markers=markers))  # they wait for the round behind this one
        until(lambda: log.stat().st_size == with_both)
        disk.hold(TOPIC)  # lets this round go, and waits with the next
        assert plain.receive()[1].responses[0].partition_responses[0].error_code == OK
        disk.await_fsync(TOPIC)
        assert ends(reader) == (3, 0)
        disk.hold()
        wire.receive()
        assert ends(reader) == (5, 5)


def test_offsets_are_decided_before_anybody_can_ask_for_them_after_a_power_cut(
    disk: HeldDisk, wire: Wire, tmp_path: Path
) -> None:
    producer = begun(wire)
    assert producer.commit_offset(GROUP, "t", 7) is OK
    disk.hold(OFFSETS, TOPIC)
    send_end(producer, commit=True)
    disk.await_fsync(OFFSETS)
    disk.await_fsync(TOPIC)
    left = disk.after_power_cut(tmp_path / "data", tmp_path / "left")
    with EmbeddedBroker(left) as again, Wire(again.bootstrap) as later:
        assert fetch_offset(later, GROUP, "t", stable=True) == (OK, 7)
    disk.hold()
    assert wire.receive()[1].error_code == OK


class NoMoreRecords(RealFileSystem):
    """A disk with no room for records of topic t."""

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.suffix == ".log" and path.parent.name.startswith(TOPIC):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pwrite(fd, data, position)


def test_after_a_crash_nothing_is_served_while_a_marker_that_is_owed_cannot_be_written(
    disk: HeldDisk, wire: Wire, tmp_path: Path
) -> None:
    producer = begun(wire)
    disk.hold(TOPIC)
    send_end(producer, commit=True)
    disk.await_fsync(TOPIC)
    left = disk.after_power_cut(tmp_path / "data", tmp_path / "left")
    shutil.copytree(left, tmp_path / "full")
    with pytest.raises(DataFolderError, match="Make room on the disk and start again"):
        EmbeddedBroker(tmp_path / "full", environment=Environment(fs=NoMoreRecords())).start()
    with EmbeddedBroker(tmp_path / "full") as again, Wire(again.bootstrap) as later:
        assert read(later, "t", committed=True) == [b"v"]
    disk.hold()
    assert wire.receive()[1].error_code == OK
