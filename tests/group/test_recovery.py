"""A crash is a replay: what was durable is what the next process shows."""

from __future__ import annotations

import pytest

from logqueue.coordination.effects import LogRecord
from logqueue.errors import ErrorCode
from logqueue.protocol.wire import MalformedFrame
from tests.group.shell import SESSION_MS, Shell


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_a_stable_group_comes_back_with_members_assignments_and_generation(shell: Shell) -> None:
    ids, generation = shell.stable_group(2)
    after = shell.restarted()
    assert after.describe() == shell.describe()
    assert [after.error_of(after.heartbeat(m, generation)) for m in ids] == [ErrorCode.NONE] * 2
    assert after.replies[after.sync(ids[1], generation)].assignment == ids[1].encode()


def test_static_members_come_back_and_are_fenced_as_before(shell: Shell) -> None:
    token = shell.join(instance="one")
    shell.advance(0)
    old, generation = shell.replies[token].member_id, shell.replies[token].generation_id
    shell.sync(old, generation, instance="one")
    after = shell.restarted()
    after.join(instance="one")
    assert after.error_of(after.heartbeat(old, generation, instance="one")) is ErrorCode.FENCED_INSTANCE_ID


def test_members_that_are_gone_after_a_restart_time_out(shell: Shell) -> None:
    shell.stable_group(2)
    after = shell.restarted()
    after.advance(SESSION_MS / 1000 + 61)
    assert after.describe().group_state == "Empty"
    assert after.restarted().describe().group_state == "Empty"


def test_offsets_come_back_as_last_committed(shell: Shell) -> None:
    for offset in range(3):
        shell.commit({("t", 0): offset, ("u", offset): offset}, metadata=f"m{offset}")
    after = shell.restarted()
    assert after.offsets() == {("t", 0): 2, ("u", 0): 0, ("u", 1): 1, ("u", 2): 2}
    found = after.replies[after.fetch(("t", 0))].groups[0].topics[0].partitions[0]
    assert found.metadata == "m2"


def test_what_was_not_durable_is_not_there_after_a_restart(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.holds_appends = True
    shell.commit({("t", 0): 2})
    assert shell.restarted().offsets() == {("t", 0): 1}


def test_a_rebalance_under_way_is_forgotten_and_its_members_join_again(shell: Shell) -> None:
    (leader, follower), generation = shell.stable_group(2)
    shell.join(leader)
    after = shell.restarted()
    assert after.describe().group_state == "Stable"
    assert after.error_of(after.heartbeat(follower, generation)) is ErrorCode.NONE


@pytest.mark.parametrize("kind", [4, 11, 17])  # subscription metadata of Kafka 4.0, share groups, streams groups
def test_records_of_other_coordinators_are_passed_over(kind: int) -> None:
    key = bytes([0, kind]) + b"\x00\x01g"
    assert Shell(log=[LogRecord(key, b"\x00\x00\x00\x00\x00\x01")]).listed() == []


@pytest.mark.parametrize("record", [LogRecord(b"", None), LogRecord(b"\x00\x01\x00\x05g", None)])
def test_a_record_that_is_damaged_is_reported(record: LogRecord) -> None:
    with pytest.raises(MalformedFrame):
        Shell(log=[record])


def test_the_tombstone_of_a_group_that_is_not_there_is_harmless(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.delete_groups("g")
    tombstones = [record for record in shell.log if record.value is None]
    assert Shell(log=tombstones).listed() == []


def test_a_group_written_by_apache_kafka_is_read() -> None:
    # GroupMetadataValue v0 of an old broker: no state timestamp, no rebalance timeout.
    member = b"\x00\x01m\x00\x01c\x00\x02/h\x00\x00\x27\x10\x00\x00\x00\x00\x00\x00\x00\x01A"
    value = b"\x00\x00\x00\x08consumer\x00\x00\x00\x05\x00\x05range\x00\x01m\x00\x00\x00\x01" + member
    shell = Shell(log=[LogRecord(b"\x00\x02\x00\x01g", value)])
    described = shell.describe()
    assert (described.group_state, described.protocol_data) == ("Stable", "range")
    assert described.members[0].member_assignment == b"A"
    assert shell.error_of(shell.heartbeat("m", 5)) is ErrorCode.NONE
