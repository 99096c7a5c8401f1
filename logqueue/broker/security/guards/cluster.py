"""Guards of the APIs that concern the cluster, its settings and its users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logqueue.broker.security.guards.access import Access, Verdict, adding
from logqueue.broker.security.guards.groups import refusal
from logqueue.broker.settings.configs import ResourceType as ConfigResource
from logqueue.errors import ErrorCode
from logqueue.protocol.messages import (
    alter_client_quotas,
    alter_configs,
    alter_replica_log_dirs,
    alter_user_scram_credentials,
    create_acls,
    delete_acls,
    describe_configs,
    elect_leaders,
    incremental_alter_configs,
)
from logqueue.security.acl import Operation

DENIED = ErrorCode.CLUSTER_AUTHORIZATION_FAILED


def guard_nothing(access: Access, request: Any, version: int) -> Verdict:
    """Everybody may: ApiVersions, and SASL, which comes before anybody is known."""
    return None


def needs(operation: Operation) -> Callable[[Access, Any, int], Verdict]:
    """A guard that wants an operation on the cluster, for responses with an error of their own."""

    def guard(access: Access, request: Any, version: int) -> Verdict:
        return None if access.to_cluster(operation) else refusal(request, DENIED)

    return guard


def guard_create_acls(access: Access, request: create_acls.CreateAclsRequest, version: int) -> Verdict:
    """ALTER on the cluster."""
    if access.to_cluster(Operation.ALTER):
        return None
    return create_acls.CreateAclsResponse(
        results=[create_acls.AclCreationResult(error_code=DENIED) for _ in request.creations]
    )


def guard_delete_acls(access: Access, request: delete_acls.DeleteAclsRequest, version: int) -> Verdict:
    """ALTER on the cluster."""
    if access.to_cluster(Operation.ALTER):
        return None
    return delete_acls.DeleteAclsResponse(
        filter_results=[delete_acls.DeleteAclsFilterResult(error_code=DENIED) for _ in request.filters]
    )


def guard_alter_user_scram_credentials(
    access: Access, request: alter_user_scram_credentials.AlterUserScramCredentialsRequest, version: int
) -> Verdict:
    """ALTER on the cluster."""
    if access.to_cluster(Operation.ALTER):
        return None
    users = dict.fromkeys([*(d.name for d in request.deletions), *(u.name for u in request.upsertions)])
    return alter_user_scram_credentials.AlterUserScramCredentialsResponse(
        results=[
            alter_user_scram_credentials.AlterUserScramCredentialsResult(user=user, error_code=DENIED) for user in users
        ]
    )


def guard_alter_client_quotas(
    access: Access, request: alter_client_quotas.AlterClientQuotasRequest, version: int
) -> Verdict:
    """ALTER_CONFIGS on the cluster."""
    if access.to_cluster(Operation.ALTER_CONFIGS):
        return None
    return alter_client_quotas.AlterClientQuotasResponse(
        entries=[
            alter_client_quotas.AlterClientQuotasResponseEntryData(error_code=DENIED, entity=entry.entity)
            for entry in request.entries
        ]
    )


def guard_alter_replica_log_dirs(
    access: Access, request: alter_replica_log_dirs.AlterReplicaLogDirsRequest, version: int
) -> Verdict:
    """ALTER on the cluster."""
    if access.to_cluster(Operation.ALTER):
        return None
    return alter_replica_log_dirs.AlterReplicaLogDirsResponse(
        results=[
            alter_replica_log_dirs.AlterReplicaLogDirTopicResult(
                topic_name=topic.name,
                partitions=[
                    alter_replica_log_dirs.AlterReplicaLogDirPartitionResult(partition_index=index, error_code=DENIED)
                    for index in topic.partitions
                ],
            )
            for folder in request.dirs
            for topic in folder.topics
        ]
    )


def guard_elect_leaders(access: Access, request: elect_leaders.ElectLeadersRequest, version: int) -> Verdict:
    """ALTER on the cluster."""
    if access.to_cluster(Operation.ALTER):
        return None
    response = elect_leaders.ElectLeadersResponse(error_code=DENIED)
    if version == 0:  # it has no error of its own
        response.replica_election_results = [
            elect_leaders.ReplicaElectionResult(
                topic=topic.topic,
                partition_result=[
                    elect_leaders.PartitionResult(partition_id=index, error_code=DENIED) for index in topic.partitions
                ],
            )
            for topic in request.topic_partitions or ()
        ]
    return response


def _config_refusal(access: Access, operation: Operation, kind: int, name: str) -> ErrorCode | None:
    """Why settings of a resource may not be seen or changed; None if they may."""
    match kind:
        case ConfigResource.TOPIC:
            return None if access.to_topic(operation, name) else ErrorCode.TOPIC_AUTHORIZATION_FAILED
        case ConfigResource.GROUP:
            return None if access.to_group(operation, name) else ErrorCode.GROUP_AUTHORIZATION_FAILED
        case _:
            return None if access.to_cluster(operation) else DENIED


def guard_describe_configs(access: Access, request: describe_configs.DescribeConfigsRequest, version: int) -> Verdict:
    """DESCRIBE_CONFIGS on the topic, the group or, for brokers, the cluster."""
    refused = []
    kept = []
    for wanted in request.resources:
        code = _config_refusal(access, Operation.DESCRIBE_CONFIGS, wanted.resource_type, wanted.resource_name)
        if code is None:
            kept.append(wanted)
        else:
            refused.append(
                describe_configs.DescribeConfigsResult(
                    error_code=code, resource_type=wanted.resource_type, resource_name=wanted.resource_name
                )
            )
    request.resources = kept

    return adding("results", refused) if refused else None


def guard_alter_configs(access: Access, request: Any, version: int) -> Verdict:
    """ALTER_CONFIGS on the topic, the group or, for brokers, the cluster."""
    messages = alter_configs if isinstance(request, alter_configs.AlterConfigsRequest) else incremental_alter_configs
    refused: list[Any] = []
    kept = []
    for wanted in request.resources:
        code = _config_refusal(access, Operation.ALTER_CONFIGS, wanted.resource_type, wanted.resource_name)
        if code is None:
            kept.append(wanted)
        else:
            refused.append(
                messages.AlterConfigsResourceResponse(
                    error_code=code, resource_type=wanted.resource_type, resource_name=wanted.resource_name
                )
            )
    request.resources = kept

    return adding("responses", refused) if refused else None
