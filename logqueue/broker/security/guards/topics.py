"""Guards of the APIs that show, create, change and delete topics."""

from __future__ import annotations

from typing import Any

from logqueue.broker.handlers.metadata import distinct
from logqueue.broker.security.guards.access import Access, Verdict, adding, split
from logqueue.errors import ErrorCode
from logqueue.protocol.messages import (
    create_partitions,
    create_topics,
    delete_topics,
    describe_topic_partitions,
    metadata,
)
from logqueue.protocol.wire import ZERO_UUID
from logqueue.security.acl import CLUSTER_NAME, Operation, ResourceType

DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
MESSAGE = "Authorization failed."
NO_OPERATIONS = 0  # the sender may not even know what it may do
DELETE_BY_STATE = 6


def guard_metadata(access: Access, request: metadata.MetadataRequest, version: int) -> Verdict:
    """DESCRIBE shows a topic; a missing one is created with CREATE on it or on the cluster."""
    everything = request.topics is None or (version == 0 and not request.topics)
    refused: list[metadata.MetadataResponseTopic] = []
    if not everything:
        allowed = []
        for topic in distinct(request.topics or ()):
            code = _metadata_refusal(access, request, topic, version)
            if code is None:
                allowed.append(topic)
            else:
                refused.append(
                    metadata.MetadataResponseTopic(
                        error_code=code,
                        name=topic.name,
                        topic_id=topic.topic_id if topic.name is None else ZERO_UUID,
                    )
                )
        request.topics = allowed
        if version == 0 and not allowed:  # an empty list would ask for everything
            everything = True

    def amend(response: Any) -> Any:
        if everything:
            response.topics = [
                t for t in response.topics if not refused and access.to_topic(Operation.DESCRIBE, t.name)
            ]
        if request.include_topic_authorized_operations:
            for topic in response.topics:
                if not topic.error_code:
                    topic.topic_authorized_operations = access.operations(ResourceType.TOPIC, topic.name)
        if request.include_cluster_authorized_operations:
            response.cluster_authorized_operations = _cluster_operations(access)
        response.topics = [*response.topics, *refused]
        return response

    return amend


def _metadata_refusal(
    access: Access, request: metadata.MetadataRequest, topic: metadata.MetadataRequestTopic, version: int
) -> ErrorCode | None:
    name = topic.name if topic.name is not None else access.name_of(topic.topic_id)
    if name is None:
        return None  # unknown ids are told by the handler
    if not access.to_topic(Operation.DESCRIBE, name):
        return DENIED
    may_create = (version < 4 or request.allow_auto_topic_creation) and access.broker.config.auto_create_topics_enable
    if may_create and name not in access.broker.topics.by_name and not _may_create(access, name):
        return DENIED
    return None


def _may_create(access: Access, name: str) -> bool:
    return access.to_cluster(Operation.CREATE) or access.to_topic(Operation.CREATE, name)


def _cluster_operations(access: Access) -> int:
    if not access.to_cluster(Operation.DESCRIBE):
        return NO_OPERATIONS
    return access.operations(ResourceType.CLUSTER, CLUSTER_NAME)


def guard_describe_cluster(access: Access, request: Any, version: int) -> Verdict:
    """Everybody may know the nodes; the operations need DESCRIBE on the cluster."""
    if not request.include_cluster_authorized_operations:
        return None

    def amend(response: Any) -> Any:
        if not response.error_code:
            response.cluster_authorized_operations = _cluster_operations(access)
        return response

    return amend


def guard_describe_topic_partitions(
    access: Access, request: describe_topic_partitions.DescribeTopicPartitionsRequest, version: int
) -> Verdict:
    """DESCRIBE shows a topic."""
    if not request.topics:  # all of them: only those are asked for, so that no page and no cursor names another
        names = [name for name in access.broker.topics.by_name if access.to_topic(Operation.DESCRIBE, name)]
        request.topics = [describe_topic_partitions.TopicRequest(name=name) for name in names]
        refused: list[describe_topic_partitions.TopicRequest] = []
    else:
        request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.DESCRIBE, topic.name))
    hidden = [
        describe_topic_partitions.DescribeTopicPartitionsResponseTopic(error_code=DENIED, name=topic.name)
        for topic in refused
    ]
    if not request.topics:
        return describe_topic_partitions.DescribeTopicPartitionsResponse(topics=hidden)

    def amend(response: Any) -> Any:
        for topic in response.topics:
            if not topic.error_code:
                topic.topic_authorized_operations = access.operations(ResourceType.TOPIC, topic.name)
        response.topics = [*response.topics, *hidden]
        return response

    return amend


def guard_create_topics(access: Access, request: create_topics.CreateTopicsRequest, version: int) -> Verdict:
    """CREATE on the cluster or on the topic; DESCRIBE_CONFIGS shows the new topic's settings."""
    request.topics, refused = split(request.topics, lambda topic: _may_create(access, topic.name))
    names = dict.fromkeys(topic.name for topic in refused)

    def amend(response: Any) -> Any:
        for topic in response.topics:
            if not topic.error_code and not access.to_topic(Operation.DESCRIBE_CONFIGS, topic.name):
                topic.topic_config_error_code = DENIED
                topic.num_partitions = topic.replication_factor = -1
                topic.configs = []
        response.topics = response.topics + [
            create_topics.CreatableTopicResult(name=name, error_code=DENIED, error_message=MESSAGE) for name in names
        ]
        return response

    return amend


def guard_create_partitions(
    access: Access, request: create_partitions.CreatePartitionsRequest, version: int
) -> Verdict:
    """ALTER on every topic."""
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.ALTER, topic.name))
    if not refused:
        return None

    def amend(response: Any) -> Any:
        response.results += [
            create_partitions.CreatePartitionsTopicResult(name=topic.name, error_code=DENIED, error_message=MESSAGE)
            for topic in refused
        ]
        return response

    return amend


def guard_delete_topics(access: Access, request: delete_topics.DeleteTopicsRequest, version: int) -> Verdict:
    """DELETE on the topic or the cluster; a name is only told to those who may DESCRIBE it."""
    if access.to_cluster(Operation.DELETE):
        return None
    hidden: list[delete_topics.DeletableTopicResult] = []
    if version < DELETE_BY_STATE:
        request.topic_names, refused = split(request.topic_names, lambda name: _may_delete(access, name))
        hidden = [
            delete_topics.DeletableTopicResult(name=name, error_code=DENIED, error_message=MESSAGE) for name in refused
        ]
    else:
        request.topics, denied = split(request.topics, lambda topic: _may_delete_state(access, topic))
        hidden = [_hidden(access, topic) for topic in denied]
    if not hidden:
        return None

    return adding("responses", hidden)


def _may_delete(access: Access, name: str) -> bool:
    if name not in access.broker.topics.by_name:  # who may describe it is told that it is not there
        return access.to_topic(Operation.DESCRIBE, name)
    return access.to_topic(Operation.DELETE, name)


def _may_delete_state(access: Access, topic: delete_topics.DeleteTopicState) -> bool:
    if topic.name is not None:
        return topic.topic_id != ZERO_UUID or _may_delete(access, topic.name)  # both: the handler refuses it
    name = access.name_of(topic.topic_id)
    return name is None or _may_delete(access, name)


def _hidden(access: Access, topic: delete_topics.DeleteTopicState) -> delete_topics.DeletableTopicResult:
    name = topic.name
    if name is None:
        found = access.name_of(topic.topic_id)
        name = found if found is not None and access.to_topic(Operation.DESCRIBE, found) else None
    return delete_topics.DeletableTopicResult(
        name=name, topic_id=topic.topic_id, error_code=DENIED, error_message=MESSAGE
    )
