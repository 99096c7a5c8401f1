"""Guards of the APIs of consumer and share groups."""

from __future__ import annotations

from typing import Any

from logqueue.broker.security.guards.access import Access, Verdict, adding, split
from logqueue.errors import ErrorCode
from logqueue.protocol.frames import response_type
from logqueue.protocol.messages import (
    consumer_group_describe,
    delete_groups,
    describe_groups,
    find_coordinator,
    offset_commit,
    offset_delete,
    offset_fetch,
    share_group_describe,
)
from logqueue.protocol.schema import Message
from logqueue.security.acl import Operation, ResourceType

DENIED = ErrorCode.GROUP_AUTHORIZATION_FAILED
TOPIC_DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
COMMIT_BY_ID = 10
FETCH_OF_GROUPS = 8
FETCH_BY_ID = 10
GROUP, TRANSACTION = 0, 1  # key types of FindCoordinator
NOBODY = -1


def refusal(request: Message, code: ErrorCode) -> Message:
    """A response that is nothing but its error."""
    assert request.api_key is not None
    return response_type(request.api_key)(error_code=code)


def guard_member(access: Access, request: Any, version: int) -> Verdict:
    """READ on the group: Join, Sync, Heartbeat, LeaveGroup."""
    return None if access.to_group(Operation.READ, request.group_id) else refusal(request, DENIED)


def guard_consumer_group_heartbeat(access: Access, request: Any, version: int) -> Verdict:
    """READ on the group, DESCRIBE on the topics that are subscribed to by name (KIP-848)."""
    if not access.to_group(Operation.READ, request.group_id):
        return refusal(request, DENIED)
    if any(not access.to_topic(Operation.DESCRIBE, name) for name in request.subscribed_topic_names or ()):
        return refusal(request, TOPIC_DENIED)
    return None


def guard_find_coordinator(access: Access, request: find_coordinator.FindCoordinatorRequest, version: int) -> Verdict:
    """DESCRIBE on the group or the transactional id; the coordinator of share state is the brokers' own affair."""
    keys = request.coordinator_keys if version >= 4 else [request.key]
    allowed, refused = split(keys, lambda key: _may_find(access, request.key_type, key))
    if not refused:
        return None
    code = {GROUP: DENIED, TRANSACTION: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}.get(
        request.key_type, ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    )
    if version < 4:
        return find_coordinator.FindCoordinatorResponse(error_code=code, node_id=NOBODY, port=NOBODY)
    answers = [find_coordinator.Coordinator(key=key, node_id=NOBODY, port=NOBODY, error_code=code) for key in refused]
    if not allowed:
        return find_coordinator.FindCoordinatorResponse(coordinators=answers)
    request.coordinator_keys = allowed

    return adding("coordinators", answers)


def _may_find(access: Access, key_type: int, key: str) -> bool:
    if key_type == GROUP:
        return access.to_group(Operation.DESCRIBE, key)
    if key_type == TRANSACTION:
        return access.to_transactional_id(Operation.DESCRIBE, key)
    return access.to_cluster(Operation.CLUSTER_ACTION)


def guard_offset_commit(access: Access, request: offset_commit.OffsetCommitRequest, version: int) -> Verdict:
    """READ on the group and on every topic."""
    by_id = version >= COMMIT_BY_ID
    code = TOPIC_DENIED
    if access.to_group(Operation.READ, request.group_id):
        request.topics, refused = split(
            request.topics, lambda topic: access.to_known_topic(Operation.READ, topic.name, topic.topic_id, by_id=by_id)
        )
    else:
        code, refused, request.topics = DENIED, request.topics, []
    if not refused and code is TOPIC_DENIED:
        return None
    answers = [
        offset_commit.OffsetCommitResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            partitions=[
                offset_commit.OffsetCommitResponsePartition(partition_index=part.partition_index, error_code=code)
                for part in topic.partitions
            ],
        )
        for topic in refused
    ]
    if not request.topics:
        return offset_commit.OffsetCommitResponse(topics=answers)

    return adding("topics", answers)


def guard_offset_fetch(access: Access, request: offset_fetch.OffsetFetchRequest, version: int) -> Verdict:
    """DESCRIBE on the group and on every topic; where all topics are asked for, the others are left out."""
    if version < FETCH_OF_GROUPS:
        return _guard_one_offset_fetch(access, request)
    by_id = version >= FETCH_BY_ID
    request.groups, refused = split(request.groups, lambda group: access.to_group(Operation.DESCRIBE, group.group_id))
    answers = [offset_fetch.OffsetFetchResponseGroup(group_id=group.group_id, error_code=DENIED) for group in refused]
    if not request.groups:
        return offset_fetch.OffsetFetchResponse(groups=answers)
    hidden: dict[str, list[Any]] = {}
    for group in request.groups:
        if group.topics is not None:
            group.topics, denied = split(
                group.topics,
                lambda topic: access.to_known_topic(Operation.DESCRIBE, topic.name, topic.topic_id, by_id=by_id),
            )
            hidden[group.group_id] = [_no_offsets(offset_fetch.OffsetFetchResponseTopics, topic) for topic in denied]

    def amend(response: Any) -> Any:
        for group in response.groups:
            shown = [
                t for t in group.topics if access.to_known_topic(Operation.DESCRIBE, t.name, t.topic_id, by_id=by_id)
            ]
            group.topics = shown + ([] if group.error_code else hidden.get(group.group_id, []))
        response.groups = [*response.groups, *answers]
        return response

    return amend


def _guard_one_offset_fetch(access: Access, request: offset_fetch.OffsetFetchRequest) -> Verdict:
    if not access.to_group(Operation.DESCRIBE, request.group_id):
        # Versions 0 and 1 have no error of their own: each partition carries it.
        topics = [_no_offsets(offset_fetch.OffsetFetchResponseTopic, t, code=DENIED) for t in request.topics or ()]
        return offset_fetch.OffsetFetchResponse(topics=topics, error_code=DENIED)
    hidden: list[Any] = []
    if request.topics is not None:
        request.topics, denied = split(request.topics, lambda topic: access.to_topic(Operation.DESCRIBE, topic.name))
        hidden = [_no_offsets(offset_fetch.OffsetFetchResponseTopic, topic) for topic in denied]

    def amend(response: Any) -> Any:
        shown = [topic for topic in response.topics if access.to_topic(Operation.DESCRIBE, topic.name)]
        response.topics = shown + hidden
        return response

    return amend


def _no_offsets(kind: Any, topic: Any, *, code: ErrorCode = TOPIC_DENIED) -> Any:
    part = offset_fetch.OffsetFetchResponsePartitions
    if kind is offset_fetch.OffsetFetchResponseTopic:
        part = offset_fetch.OffsetFetchResponsePartition  # type: ignore[assignment]
    answer = kind(
        name=topic.name,
        partitions=[
            part(partition_index=index, committed_offset=-1, metadata="", error_code=code)
            for index in topic.partition_indexes
        ],
    )
    if kind is offset_fetch.OffsetFetchResponseTopics:
        answer.topic_id = topic.topic_id
    return answer


def guard_offset_delete(access: Access, request: offset_delete.OffsetDeleteRequest, version: int) -> Verdict:
    """DELETE on the group, READ on every topic."""
    if not access.to_group(Operation.DELETE, request.group_id):
        return refusal(request, DENIED)
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.READ, topic.name))
    if not refused:
        return None
    answers = [
        offset_delete.OffsetDeleteResponseTopic(
            name=topic.name,
            partitions=[
                offset_delete.OffsetDeleteResponsePartition(
                    partition_index=part.partition_index, error_code=TOPIC_DENIED
                )
                for part in topic.partitions
            ],
        )
        for topic in refused
    ]

    def amend(response: Any) -> Any:
        if not response.error_code:
            response.topics = [*response.topics, *answers]
        return response

    return amend


def guard_describe_groups(access: Access, request: describe_groups.DescribeGroupsRequest, version: int) -> Verdict:
    """DESCRIBE on every group."""
    request.groups, refused = split(request.groups, lambda name: access.to_group(Operation.DESCRIBE, name))

    def amend(response: Any) -> Any:
        if request.include_authorized_operations:
            _add_operations(access, response)
        response.groups = response.groups + [
            describe_groups.DescribedGroup(group_id=name, error_code=DENIED) for name in refused
        ]
        return response

    return amend


def _add_operations(access: Access, response: Any) -> None:
    for group in response.groups:
        if not group.error_code:
            group.authorized_operations = access.operations(ResourceType.GROUP, group.group_id)


def guard_consumer_group_describe(access: Access, request: Any, version: int) -> Verdict:
    """DESCRIBE on every group and on every topic that its members have (KIP-1043 for share groups alike)."""
    request.group_ids, refused = split(request.group_ids, lambda name: access.to_group(Operation.DESCRIBE, name))
    messages = consumer_group_describe if request.api_key == 69 else share_group_describe

    def amend(response: Any) -> Any:
        if request.include_authorized_operations:
            _add_operations(access, response)
        shown = []
        for group in response.groups:
            if all(access.to_topic(Operation.DESCRIBE, name) for name in _topics_of(group)):
                shown.append(group)
            else:
                shown.append(
                    messages.DescribedGroup(
                        group_id=group.group_id,
                        error_code=TOPIC_DENIED,
                        error_message="The group has described topic(s) that the client is not authorized to describe.",
                    )
                )
        response.groups = shown + [messages.DescribedGroup(group_id=name, error_code=DENIED) for name in refused]
        return response

    return amend


def _topics_of(group: Any) -> set[str]:
    names: set[str] = set()
    for member in group.members:
        names.update(member.subscribed_topic_names)
        for assignment in (member.assignment, getattr(member, "target_assignment", None)):
            if assignment is not None:
                names.update(part.topic_name for part in assignment.topic_partitions)
    return names


def guard_list_groups(access: Access, request: Any, version: int) -> Verdict:
    """DESCRIBE on the cluster shows all groups, otherwise DESCRIBE on each."""
    if access.to_cluster(Operation.DESCRIBE):
        return None

    def amend(response: Any) -> Any:
        response.groups = [g for g in response.groups if access.to_group(Operation.DESCRIBE, g.group_id)]
        return response

    return amend


def guard_delete_groups(access: Access, request: delete_groups.DeleteGroupsRequest, version: int) -> Verdict:
    """DELETE on every group."""
    names = dict.fromkeys(request.groups_names)
    request.groups_names, refused = split(names, lambda name: access.to_group(Operation.DELETE, name))
    if not refused:
        return None
    answers = [delete_groups.DeletableGroupResult(group_id=name, error_code=DENIED) for name in refused]
    if not request.groups_names:
        return delete_groups.DeleteGroupsResponse(results=answers)

    return adding("results", answers)
