"""What a crash, a restart, a full disk and a deleted topic leave of transactions, in a whole broker."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from logqueue.broker.settings.features import TRANSACTION_VERSION, Features, FeatureUpdateFailed
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest
from logqueue.protocol.messages.metadata import MetadataRequest
from logqueue.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from logqueue.storage.environment import Environment
from logqueue.storage.errors import DataFolderError, StorageError
from logqueue.storage.file_system import RealFileSystem
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, produce_request
from tests.transactions.producing import TransactionalProducer, create_topics, fetch_offset, read, until

OK = ErrorCode.NONE
GROUP = "g"
SAFE_DOWNGRADE = 2


class FullDisk(RealFileSystem):
    """The real disk, full for the folders whose names begin with one of `full`."""

    def __init__(self) -> None:
        self.full: tuple[str, ...] = ()

    def pwrite(self, fd: int, data: bytes, position: int, /) -> int:  # type: ignore[override]
        folder = Path(f"/proc/self/fd/{fd}").readlink().parent.name
        if folder.startswith(self.full or ("\0",)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pwrite(fd, data, position)


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
def broker(disk: FullDisk, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "data", environment=Environment(fs=disk, is_steady=False)) as running:
        yield running


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        create_topics(connection, "t")
        yield connection


def begun(wire: Wire, version: int) -> TransactionalProducer:
    """A producer with a record and an offset in its open transaction."""
    producer = TransactionalProducer(wire, "tx")
    assert producer.init() is OK
    if version < 12:
        assert producer.add("t") is OK
        assert producer.add_offsets(GROUP) is OK
    assert producer.produce("t", b"v", version=version) is OK
    assert producer.commit_offset(GROUP, "t", 7, version=5 if version == 12 else 3) is OK
    return producer


@pytest.mark.parametrize("version", [9, 12])
@pytest.mark.parametrize("commit", [True, False])
def test_a_broker_that_dies_between_decision_and_markers_finishes_the_transaction_when_it_starts(
    broker: EmbeddedBroker, disk: FullDisk, wire: Wire, tmp_path: Path, version: int, commit: bool
) -> None:
    producer = begun(wire, version)
    disk.full = ("t-", "__consumer_offsets-")
    assert producer.end(commit=commit, version=5 if version == 12 else 3) is OK
    assert producer.state() == ("PrepareCommit" if commit else "PrepareAbort")
    assert read(wire, "t", committed=True) == []
    shutil.copytree(broker.data_dir, tmp_path / "crashed")  # what kill -9 leaves
    with EmbeddedBroker(tmp_path / "crashed") as again, Wire(again.bootstrap) as later:
        producer.wire = later
        until(lambda: producer.state() == ("CompleteCommit" if commit else "CompleteAbort"))
        assert read(later, "t", committed=True) == ([b"v"] if commit else [])
        assert fetch_offset(later, GROUP, "t", stable=True) == (OK, 7 if commit else -1)
        producer.add("t")
        assert producer.produce("t", b"next", version=version) is OK
    disk.full = ()
    producer.wire = wire
    until(lambda: producer.state().startswith("Complete"))  # the broker that lives has tried again by itself
    assert read(wire, "t", committed=True) == ([b"v"] if commit else [])


def test_what_is_open_or_pending_stays_so_over_a_restart(broker: EmbeddedBroker, wire: Wire) -> None:
    producer = begun(wire, 12)
    broker.restart()
    with Wire(broker.bootstrap) as later:
        producer.wire = later
        assert producer.state() == "Ongoing"
        assert read(later, "t", committed=True) == []
        assert fetch_offset(later, GROUP, "t", stable=True) == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
        assert producer.produce("t", b"w") is OK
        assert producer.end() is OK
        assert read(later, "t", committed=True) == [b"v", b"w"]
        assert fetch_offset(later, GROUP, "t", stable=True) == (OK, 7)
    broker.restart()
    with Wire(broker.bootstrap) as last:
        assert fetch_offset(last, GROUP, "t", stable=True) == (OK, 7)
        producer.wire = last
        assert producer.produce("t", b"x") is OK
        assert producer.end(commit=False) is OK
        assert read(last, "t", committed=True) == [b"v", b"w"]


def test_a_topic_that_is_deleted_takes_its_part_of_a_transaction_with_it(wire: Wire) -> None:
    create_topics(wire, "u")
    producer = begun(wire, 12)
    assert producer.produce("u", b"gone", sequence=0) is OK
    assert wire.call(5, DeleteTopicsRequest(topic_names=["u"])).responses[0].error_code == 0
    assert producer.end() is OK
    assert producer.state() == "CompleteCommit"
    assert read(wire, "t", committed=True) == [b"v"]


def test_offsets_of_a_deleted_topic_are_forgotten_before_their_transaction_ends(wire: Wire) -> None:
    producer = begun(wire, 12)
    assert wire.call(5, DeleteTopicsRequest(topic_names=["t"])).responses[0].error_code == 0
    create_topics(wire, "t")
    assert producer.end() is OK
    assert fetch_offset(wire, GROUP, "t", stable=True) == (OK, -1)


def test_requests_of_one_producer_are_served_in_order_though_the_first_waits_for_its_partition(wire: Wire) -> None:
    producer = TransactionalProducer(wire, "tx")
    assert producer.init() is OK
    sent = []
    for n in range(6):
        for partition in (0, 1):
            options = {"producer_id": producer.producer_id, "producer_epoch": producer.epoch, "base_sequence": n}
            request = produce_request("t", batch(b"%d" % n, transactional=True, **options), partition=partition)
            request.transactional_id = "tx"
            sent.append(wire.send(12, request))
    for number in sent:
        answered, response = wire.receive()
        assert (answered, response.responses[0].partition_responses[0].error_code) == (number, 0)
    assert producer.end() is OK
    for partition in (0, 1):
        assert read(wire, "t", committed=True, partition=partition) == [b"%d" % n for n in range(6)]


def test_the_state_topic_is_made_when_it_is_first_needed_and_shown_as_internal(wire: Wire) -> None:
    def topics() -> dict[str, bool]:
        return {t.name: t.is_internal for t in wire.call(9, MetadataRequest(topics=None)).topics}

    assert "__transaction_state" not in topics()
    TransactionalProducer(wire, "tx")
    assert topics()["__transaction_state"]


# Features


def test_clients_are_told_the_second_protocol(wire: Wire) -> None:
    answer = wire.call(4, ApiVersionsRequest(client_software_name="wire", client_software_version="1"))
    finalized = {f.name: f.max_version_level for f in answer.finalized_features}
    assert finalized[TRANSACTION_VERSION] == 2


def test_after_a_downgrade_clients_are_told_the_first_protocol_and_producers_fenced_by_it(
    broker: EmbeddedBroker, wire: Wire
) -> None:
    downgrade = FeatureUpdateKey(feature=TRANSACTION_VERSION, max_version_level=1, upgrade_type=SAFE_DOWNGRADE)
    assert wire.call(2, UpdateFeaturesRequest(feature_updates=[downgrade])).error_code == 0
    broker.restart()
    with Wire(broker.bootstrap) as later:
        answer = later.call(4, ApiVersionsRequest(client_software_name="wire", client_software_version="1"))
        assert {f.name: f.max_version_level for f in answer.finalized_features}[TRANSACTION_VERSION] == 1
        producer = begun(later, 9)
        epoch = producer.epoch
        assert producer.init() is OK
        assert producer.epoch == epoch + 2
        assert producer.add("t") is OK
        assert producer.end(version=3) is OK
        assert producer.describe().producer_epoch == producer.epoch


def test_levels_that_cannot_be_written_stay_as_they_were(tmp_path: Path) -> None:
    features = Features(RealFileSystem(), tmp_path / "missing")
    with pytest.raises(StorageError):
        features.update({TRANSACTION_VERSION: 1})
    assert (features.transaction_version, features.epoch) == (2, 0)


def test_levels_that_were_changed_are_found_again(tmp_path: Path) -> None:
    features = Features(RealFileSystem(), tmp_path)
    assert (features.transaction_version, features.epoch) == (2, 0)
    features.update({TRANSACTION_VERSION: 1})
    features.update({TRANSACTION_VERSION: 0})
    again = Features(RealFileSystem(), tmp_path)
    assert (again.transaction_version, again.epoch) == (0, 2)
    assert TRANSACTION_VERSION not in again.finalized
    for wrong in ({TRANSACTION_VERSION: 3}, {"no.such.feature": 1}):
        with pytest.raises(FeatureUpdateFailed):
            again.update(wrong)
    assert again.epoch == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 99, "epoch": 1, "finalized": {}}'])
def test_levels_that_cannot_be_read_keep_the_broker_from_starting(tmp_path: Path, content: str) -> None:
    (tmp_path / "logqueue-features.json").write_text(content)
    with pytest.raises(DataFolderError, match=r"logqueue-features\.json"):
        Features(RealFileSystem(), tmp_path)
