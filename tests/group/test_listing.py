"""ListGroups and DescribeGroups."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from logqueue.group.listing import ALL_OPERATIONS
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from tests.group.shell import GROUP, Shell, subscription


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_groups_are_listed_by_state_and_type_whatever_the_case(shell: Shell) -> None:
    shell.stable_group()
    shell.commit({("t", 0): 1}, group="simple")
    assert sorted(shell.listed()) == [GROUP, "simple"]
    assert shell.listed(states=("STABLE",)) == [GROUP]
    assert shell.listed(states=("empty", "Dead")) == ["simple"]
    assert sorted(shell.listed(types=("Classic",))) == [GROUP, "simple"]
    assert shell.listed(types=("consumer",)) == []


def test_a_stable_group_is_described_with_its_protocol_metadata_and_assignments(shell: Shell) -> None:
    (only,), _ = shell.stable_group()
    described = shell.describe()
    assert (described.group_state, described.protocol_type, described.protocol_data) == ("Stable", "consumer", "range")
    member = described.members[0]
    assert (member.member_id, member.client_id, member.client_host) == (only, "c", "/127.0.0.1")
    assert (member.member_metadata, member.member_assignment) == (subscription("t"), only.encode())


def test_a_rebalancing_group_is_described_without_protocol_and_metadata(shell: Shell) -> None:
    shell.join(version=3)
    described = shell.describe()
    assert (described.group_state, described.protocol_data) == ("PreparingRebalance", "")
    assert described.members[0].member_metadata == b""


@pytest.mark.parametrize(("version", "error"), [(5, ErrorCode.NONE), (6, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_an_unknown_group_is_dead_and_an_error_from_version_6_on(shell: Shell, version: int, error: ErrorCode) -> None:
    request = DescribeGroupsRequest(groups=["missing"], include_authorized_operations=True)
    described = shell.replies[shell.send(shell.coordinator.describe_groups, request, version)].groups[0]
    assert (described.group_state, described.error_code) == ("Dead", error)
    assert bool(described.error_message) is (error is not ErrorCode.NONE)


def test_operations_are_told_when_asked_for(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    request = DescribeGroupsRequest(groups=[GROUP], include_authorized_operations=True)
    described = shell.replies[shell.send(shell.coordinator.describe_groups, request, 5)].groups[0]
    assert described.authorized_operations == ALL_OPERATIONS
    assert shell.describe().authorized_operations == -(2**31)
