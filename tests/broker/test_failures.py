"""A request that fails in a way that nobody foresaw is answered, and its connection goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from logqueue.broker.failures import failure_response
from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import read_response, request_type, write_response
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from logqueue.protocol.messages.list_groups import ListGroupsRequest
from logqueue.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logqueue.protocol.schema import ARRAY, STRING, Struct
from logqueue.protocol.versions import SERVED
from logqueue.storage.environment import Environment
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create_topic, fetch_request, produce_request
from tests.storage.disks import HastyFileSystem

CODE = ErrorCode.UNKNOWN_SERVER_ERROR
NAME, NUMBER = "a name", 5
EVERY_VERSION = [(key, version) for key, (low, high) in SERVED.items() for version in range(low, high + 1)]


def filled(kind: type[Struct], version: int) -> Any:
    """A request with one thing in each of its lists."""
    made = kind()
    for field in kind.fields:
        if not field.is_in(version):
            continue
        if field.kind is ARRAY:
            item = field.item
            thing = filled(item, version) if isinstance(item, type) else NAME if item is STRING else NUMBER
            setattr(made, field.name, [thing])
        elif field.kind is STRING:
            setattr(made, field.name, NAME)
        elif field.name in ("partition", "partition_index", "index", "acks"):
            setattr(made, field.name, NUMBER)
    return made


def codes_in(value: Any) -> list[int]:
    if isinstance(value, list):
        return [code for each in value for code in codes_in(each)]
    if not isinstance(value, Struct):
        return []
    found = [getattr(value, field.name) for field in type(value).fields if field.name.endswith("error_code")]
    return found + [code for field in type(value).fields for code in codes_in(getattr(value, field.name))]


@pytest.mark.parametrize(("key", "version"), EVERY_VERSION, ids=lambda value: getattr(value, "name", str(value)))
def test_every_request_can_be_refused_as_a_whole(key: ApiKey, version: int) -> None:
    response = failure_response(filled(request_type(key), version), version, CODE, key)
    assert response is not None
    sent = b"".join(bytes(part) for part in write_response(key, version, 1, response))  # type: ignore[arg-type]
    _, received = read_response(key, version, memoryview(sent)[4:])
    assert CODE in codes_in(received)


@pytest.mark.parametrize(
    ("key", "version", "expected"),
    [
        (ApiKey.PRODUCE, 9, "index=5, error_code=-1"),
        (ApiKey.FETCH, 5, "partition_index=5, error_code=-1"),
        (ApiKey.LIST_OFFSETS, 6, "partition_index=5, error_code=-1"),
        (ApiKey.METADATA, 9, "error_code=-1, name='a name'"),
        (ApiKey.OFFSET_COMMIT, 9, "name='a name'"),
        (ApiKey.OFFSET_FETCH, 9, "group_id='a name'"),
        (ApiKey.DESCRIBE_GROUPS, 6, "error_code=-1, error_message=None, group_id='a name'"),
        (ApiKey.DELETE_TOPICS, 5, "name='a name'"),
        (ApiKey.DELETE_TOPICS, 6, "name='a name'"),
        (ApiKey.CREATE_TOPICS, 7, "name='a name'"),
        (
            ApiKey.ALTER_REPLICA_LOG_DIRS,
            2,
            "topic_name='a name', partitions=[AlterReplicaLogDirPartitionResult(partition_index=5",
        ),
        (ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, "user='a name'"),
        (ApiKey.ALTER_CLIENT_QUOTAS, 1, "entity=[EntityData(entity_type='a name'"),
        (ApiKey.DESCRIBE_TRANSACTIONS, 0, "transactional_id='a name'"),
        (ApiKey.ADD_PARTITIONS_TO_TXN, 3, "partition_index=5, partition_error_code=-1"),
    ],
)
def test_a_refusal_names_what_was_asked_for(key: ApiKey, version: int, expected: str) -> None:
    assert expected in repr(failure_response(filled(request_type(key), version), version, CODE, key)).replace(
        repr(CODE), "-1"
    )


def test_a_produce_without_acknowledgement_has_no_answer() -> None:
    request = filled(request_type(ApiKey.PRODUCE), 9)
    request.acks = 0
    assert failure_response(request, 9, CODE, ApiKey.PRODUCE) is None


def test_a_bug_in_a_handler_is_answered_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("logqueue.broker.handlers.list_groups.handle", broken)
    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as wire:
        with caplog.at_level(logging.ERROR, "logqueue.broker"):
            assert wire.call(4, ListGroupsRequest()).error_code == CODE
        (told,) = caplog.records
        assert "LIST_GROUPS" in told.getMessage() and told.exc_info
        (group,) = wire.call(5, DescribeGroupsRequest(groups=["g"])).groups
        assert group.group_id == "g"


class Unreadable(HastyFileSystem):
    """A disk that can be made to read nothing of the logs."""

    def __init__(self) -> None:
        self.is_broken = False

    def pread(self, fd: int, size: int, position: int) -> bytes:
        if self.is_broken:
            raise OSError(5, "Input/output error")
        return super().pread(fd, size, position)


def test_a_disk_that_cannot_read_is_told_to_readers_and_once_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Unreadable()
    with EmbeddedBroker(tmp_path, environment=Environment(fs=disk)) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        for _ in range(3):
            wire.call(9, produce_request("t", batch(b"value")))
        disk.is_broken = True
        with caplog.at_level(logging.ERROR, "logqueue.broker"):
            for _ in range(2):
                answer = wire.call(11, fetch_request("t", offset=1)).responses[0].partitions[0]
                assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            partition = ListOffsetsPartition(partition_index=0, timestamp=1)
            asked = ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=[partition])])
            assert wire.call(5, asked).topics[0].partitions[0].error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert [record.getMessage() for record in caplog.records] == [
            "t-0 cannot be read: [Errno 5] Input/output error"
        ]
        disk.is_broken = False
        assert wire.call(11, fetch_request("t", offset=1)).responses[0].partitions[0].error_code == 0
