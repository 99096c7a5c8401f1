"""One request of every API that ACLs protect, what it needs, and the error codes in its answer. Runs on any Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from logqueue.errors import ErrorCode
from logqueue.protocol.messages import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    alter_client_quotas,
    alter_configs,
    alter_user_scram_credentials,
    consumer_group_describe,
    consumer_group_heartbeat,
    create_acls,
    create_partitions,
    create_topics,
    delete_acls,
    delete_groups,
    delete_records,
    delete_topics,
    describe_acls,
    describe_client_quotas,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_topic_partitions,
    describe_transactions,
    describe_user_scram_credentials,
    end_txn,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_offsets,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    sync_group,
    txn_offset_commit,
    write_txn_markers,
)
from logqueue.protocol.schema import Message, Struct
from logqueue.security.acl import CLUSTER_NAME, Operation, ResourceType
from tests.broker.wire import batch, produce_request

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
TXN = ResourceType.TRANSACTIONAL_ID
TOPIC_DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
GROUP_DENIED = ErrorCode.GROUP_AUTHORIZATION_FAILED
CLUSTER_DENIED = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
TXN_DENIED = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
DENIALS = {TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, TXN_DENIED}

Need = tuple[ResourceType, Operation]


@dataclass(frozen=True, slots=True)
class Step:
    """A request, the rights it takes one after the other, and the denial that each missing one is."""

    name: str
    version: int
    make: Callable[[str], Message]  # from the name of the topic, the group and the transactional id
    needs: tuple[tuple[Need, ErrorCode], ...]


def codes(message: Struct) -> Iterator[int]:
    """Every error code in an answer."""
    for field in type(message).fields:
        value: Any = getattr(message, field.name)
        if field.name.endswith("error_code"):
            yield value
        elif isinstance(value, Struct):
            yield from codes(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Struct):
                    yield from codes(item)


def denials(message: Struct) -> set[ErrorCode]:
    return {ErrorCode(code) for code in codes(message)} & DENIALS


def resource_name(kind: ResourceType, name: str) -> str:
    return CLUSTER_NAME if kind is CLUSTER else name


def _commit(module: Any, name: str, prefix: str) -> Any:
    part = getattr(module, f"{prefix}RequestPartition")(partition_index=0, committed_offset=0)
    return [getattr(module, f"{prefix}RequestTopic")(name=name, partitions=[part])]


def _any_acl(module: Any) -> dict[str, Any]:
    return {"resource_type_filter": 2, "resource_name_filter": "none", "operation": 1, "permission_type": 1}


T_READ, T_WRITE = ((TOPIC, Operation.READ), TOPIC_DENIED), ((TOPIC, Operation.WRITE), TOPIC_DENIED)
T_DESCRIBE = ((TOPIC, Operation.DESCRIBE), TOPIC_DENIED)
G_READ, G_DESCRIBE = ((GROUP, Operation.READ), GROUP_DENIED), ((GROUP, Operation.DESCRIBE), GROUP_DENIED)
X_WRITE = ((TXN, Operation.WRITE), TXN_DENIED)
C_ALTER, C_DESCRIBE = ((CLUSTER, Operation.ALTER), CLUSTER_DENIED), ((CLUSTER, Operation.DESCRIBE), CLUSTER_DENIED)

STEPS: tuple[Step, ...] = (
    Step("produce", 9, lambda n: produce_request(n, batch(b"v"), acks=1), (T_WRITE,)),
    Step(
        "fetch",
        12,
        lambda n: fetch.FetchRequest(
            max_bytes=1000,
            topics=[
                fetch.FetchTopic(topic=n, partitions=[fetch.FetchPartition(partition=0, partition_max_bytes=1000)])
            ],
        ),
        (T_READ,),
    ),
    Step(
        "list_offsets",
        7,
        lambda n: list_offsets.ListOffsetsRequest(
            replica_id=-1,
            topics=[
                list_offsets.ListOffsetsTopic(
                    name=n, partitions=[list_offsets.ListOffsetsPartition(partition_index=0, timestamp=-1)]
                )
            ],
        ),
        (T_DESCRIBE,),
    ),
    Step(
        "offset_for_leader_epoch",
        4,
        lambda n: offset_for_leader_epoch.OffsetForLeaderEpochRequest(
            topics=[
                offset_for_leader_epoch.OffsetForLeaderTopic(
                    topic=n, partitions=[offset_for_leader_epoch.OffsetForLeaderPartition(partition=0, leader_epoch=0)]
                )
            ]
        ),
        (T_DESCRIBE,),
    ),
    Step(
        "metadata",
        9,
        lambda n: metadata.MetadataRequest(
            topics=[metadata.MetadataRequestTopic(name=n)], allow_auto_topic_creation=False
        ),
        (T_DESCRIBE,),
    ),
    Step(
        "metadata_that_creates",
        9,
        lambda n: metadata.MetadataRequest(topics=[metadata.MetadataRequestTopic(name=f"{n}-auto")]),
        (T_DESCRIBE, ((TOPIC, Operation.CREATE), TOPIC_DENIED)),
    ),
    Step(
        "describe_topic_partitions",
        0,
        lambda n: describe_topic_partitions.DescribeTopicPartitionsRequest(
            topics=[describe_topic_partitions.TopicRequest(name=n)]
        ),
        (T_DESCRIBE,),
    ),
    Step(
        "create_topics",
        7,
        lambda n: create_topics.CreateTopicsRequest(
            topics=[create_topics.CreatableTopic(name=f"{n}-new", num_partitions=1, replication_factor=1)]
        ),
        (
            ((TOPIC, Operation.CREATE), TOPIC_DENIED),
            ((TOPIC, Operation.DESCRIBE_CONFIGS), TOPIC_DENIED),
        ),
    ),
    Step(
        "create_partitions",
        3,
        lambda n: create_partitions.CreatePartitionsRequest(
            topics=[create_partitions.CreatePartitionsTopic(name=n, count=2, assignments=None)]
        ),
        (((TOPIC, Operation.ALTER), TOPIC_DENIED),),
    ),
    Step(
        "delete_records",
        2,
        lambda n: delete_records.DeleteRecordsRequest(
            timeout_ms=5000,
            topics=[
                delete_records.DeleteRecordsTopic(
                    name=n, partitions=[delete_records.DeleteRecordsPartition(partition_index=0, offset=0)]
                )
            ],
        ),
        (((TOPIC, Operation.DELETE), TOPIC_DENIED),),
    ),
    Step(
        "delete_topics",
        5,
        lambda n: delete_topics.DeleteTopicsRequest(topic_names=[f"{n}-new"], timeout_ms=5000),
        (((TOPIC, Operation.DELETE), TOPIC_DENIED),),
    ),
    Step(
        "describe_configs_of_a_topic",
        4,
        lambda n: describe_configs.DescribeConfigsRequest(
            resources=[describe_configs.DescribeConfigsResource(resource_type=2, resource_name=n)]
        ),
        (((TOPIC, Operation.DESCRIBE_CONFIGS), TOPIC_DENIED),),
    ),
    Step(
        "describe_configs_of_the_broker",
        4,
        lambda n: describe_configs.DescribeConfigsRequest(
            resources=[describe_configs.DescribeConfigsResource(resource_type=4, resource_name="1")]
        ),
        (((CLUSTER, Operation.DESCRIBE_CONFIGS), CLUSTER_DENIED),),
    ),
    Step(
        "incremental_alter_configs",
        1,
        lambda n: incremental_alter_configs.IncrementalAlterConfigsRequest(
            resources=[
                incremental_alter_configs.AlterConfigsResource(
                    resource_type=2,
                    resource_name=n,
                    configs=[
                        incremental_alter_configs.AlterableConfig(
                            name="retention.ms", config_operation=0, value="100000"
                        )
                    ],
                )
            ]
        ),
        (((TOPIC, Operation.ALTER_CONFIGS), TOPIC_DENIED),),
    ),
    Step(
        "alter_configs",
        2,
        lambda n: alter_configs.AlterConfigsRequest(
            resources=[alter_configs.AlterConfigsResource(resource_type=2, resource_name=n, configs=[])]
        ),
        (((TOPIC, Operation.ALTER_CONFIGS), TOPIC_DENIED),),
    ),
    Step(
        "describe_producers",
        0,
        lambda n: describe_producers.DescribeProducersRequest(
            topics=[describe_producers.TopicRequest(name=n, partition_indexes=[0])]
        ),
        (T_READ,),
    ),
    Step(
        "find_coordinator_of_a_group",
        4,
        lambda n: find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=[n]),
        (G_DESCRIBE,),
    ),
    Step(
        "find_coordinator_of_a_transaction",
        4,
        lambda n: find_coordinator.FindCoordinatorRequest(key_type=1, coordinator_keys=[n]),
        (((TXN, Operation.DESCRIBE), TXN_DENIED),),
    ),
    Step(
        "join_group",
        7,
        lambda n: join_group.JoinGroupRequest(group_id=n, session_timeout_ms=6000, protocol_type="consumer"),
        (G_READ,),
    ),
    Step(
        "sync_group",
        5,
        lambda n: sync_group.SyncGroupRequest(group_id=n, member_id="m", protocol_type="consumer", protocol_name="p"),
        (G_READ,),
    ),
    Step("heartbeat", 4, lambda n: heartbeat.HeartbeatRequest(group_id=n, member_id="m"), (G_READ,)),
    Step("leave_group", 4, lambda n: leave_group.LeaveGroupRequest(group_id=n), (G_READ,)),
    Step(
        "offset_commit",
        8,
        lambda n: offset_commit.OffsetCommitRequest(group_id=n, topics=_commit(offset_commit, n, "OffsetCommit")),
        (G_READ, T_READ),
    ),
    Step(
        "offset_fetch",
        7,
        lambda n: offset_fetch.OffsetFetchRequest(
            group_id=n, topics=[offset_fetch.OffsetFetchRequestTopic(name=n, partition_indexes=[0])]
        ),
        (G_DESCRIBE, T_DESCRIBE),
    ),
    Step(
        "offset_fetch_of_groups",
        8,
        lambda n: offset_fetch.OffsetFetchRequest(
            groups=[
                offset_fetch.OffsetFetchRequestGroup(
                    group_id=n, topics=[offset_fetch.OffsetFetchRequestTopics(name=n, partition_indexes=[0])]
                )
            ]
        ),
        (G_DESCRIBE, T_DESCRIBE),
    ),
    Step(
        "offset_delete",
        0,
        lambda n: offset_delete.OffsetDeleteRequest(
            group_id=n,
            topics=[
                offset_delete.OffsetDeleteRequestTopic(
                    name=n, partitions=[offset_delete.OffsetDeleteRequestPartition(partition_index=0)]
                )
            ],
        ),
        (((GROUP, Operation.DELETE), GROUP_DENIED), T_READ),
    ),
    Step("describe_groups", 5, lambda n: describe_groups.DescribeGroupsRequest(groups=[n]), (G_DESCRIBE,)),
    Step(
        "delete_groups",
        2,
        lambda n: delete_groups.DeleteGroupsRequest(groups_names=[f"{n}-none"]),
        (((GROUP, Operation.DELETE), GROUP_DENIED),),
    ),
    Step(
        "consumer_group_heartbeat",
        0,
        lambda n: consumer_group_heartbeat.ConsumerGroupHeartbeatRequest(
            group_id=f"{n}-848",
            member_id="AAAAAAAAAAAAAAAAAAAAAA",
            member_epoch=0,
            rebalance_timeout_ms=1000,
            subscribed_topic_names=[n],
            topic_partitions=[],
        ),
        (G_READ, T_DESCRIBE),
    ),
    Step(
        "consumer_group_describe",
        0,
        lambda n: consumer_group_describe.ConsumerGroupDescribeRequest(group_ids=[n]),
        (G_DESCRIBE,),
    ),
    Step(
        "init_producer_id",
        4,
        lambda n: init_producer_id.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000),
        (((TOPIC, Operation.WRITE), CLUSTER_DENIED),),
    ),
    Step(
        "init_producer_id_of_a_transaction",
        4,
        lambda n: init_producer_id.InitProducerIdRequest(transactional_id=n, transaction_timeout_ms=1000),
        (X_WRITE,),
    ),
    Step(
        "add_partitions_to_txn",
        3,
        lambda n: add_partitions_to_txn.AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=n,
            v3_and_below_producer_id=99_999,
            v3_and_below_topics=[add_partitions_to_txn.AddPartitionsToTxnTopic(name=n, partitions=[0])],
        ),
        (X_WRITE, T_WRITE),
    ),
    Step(
        "add_offsets_to_txn",
        3,
        lambda n: add_offsets_to_txn.AddOffsetsToTxnRequest(transactional_id=n, producer_id=99_999, group_id=n),
        (X_WRITE, G_READ),
    ),
    Step(
        "end_txn",
        3,
        lambda n: end_txn.EndTxnRequest(transactional_id=n, producer_id=99_999, committed=True),
        (X_WRITE,),
    ),
    Step(
        "txn_offset_commit",
        3,
        lambda n: txn_offset_commit.TxnOffsetCommitRequest(
            transactional_id=n, group_id=n, topics=_commit(txn_offset_commit, n, "TxnOffsetCommit")
        ),
        (X_WRITE, G_READ, T_READ),
    ),
    Step(
        "describe_transactions",
        0,
        lambda n: describe_transactions.DescribeTransactionsRequest(transactional_ids=[n]),
        (((TXN, Operation.DESCRIBE), TXN_DENIED),),
    ),
    Step(
        "write_txn_markers",
        1,
        lambda n: write_txn_markers.WriteTxnMarkersRequest(
            markers=[
                write_txn_markers.WritableTxnMarker(
                    producer_id=99_999,
                    topics=[write_txn_markers.WritableTxnMarkerTopic(name=f"{n}-none", partition_indexes=[0])],
                )
            ]
        ),
        (C_ALTER,),
    ),
    Step("describe_acls", 2, lambda n: describe_acls.DescribeAclsRequest(**_any_acl(describe_acls)), (C_DESCRIBE,)),
    Step(
        "create_acls",
        2,
        lambda n: create_acls.CreateAclsRequest(
            creations=[
                create_acls.AclCreation(
                    resource_type=2,
                    resource_name=f"{n}-other",
                    principal="User:nobody",
                    host="*",
                    operation=3,
                    permission_type=3,
                )
            ]
        ),
        (C_ALTER,),
    ),
    Step(
        "delete_acls",
        2,
        lambda n: delete_acls.DeleteAclsRequest(
            filters=[delete_acls.DeleteAclsFilter(**(_any_acl(delete_acls) | {"resource_name_filter": f"{n}-other"}))]
        ),
        (C_ALTER,),
    ),
    Step(
        "describe_user_scram_credentials",
        0,
        lambda n: describe_user_scram_credentials.DescribeUserScramCredentialsRequest(users=[]),
        (C_DESCRIBE,),
    ),
    Step(
        "alter_user_scram_credentials",
        0,
        lambda n: alter_user_scram_credentials.AlterUserScramCredentialsRequest(
            deletions=[alter_user_scram_credentials.ScramCredentialDeletion(name=n, mechanism=1)]
        ),
        (C_ALTER,),
    ),
    Step(
        "describe_client_quotas",
        1,
        lambda n: describe_client_quotas.DescribeClientQuotasRequest(),
        (((CLUSTER, Operation.DESCRIBE_CONFIGS), CLUSTER_DENIED),),
    ),
    Step(
        "alter_client_quotas",
        1,
        lambda n: alter_client_quotas.AlterClientQuotasRequest(
            validate_only=True,
            entries=[
                alter_client_quotas.EntryData(
                    entity=[alter_client_quotas.EntityData(entity_type="user", entity_name=n)],
                    ops=[alter_client_quotas.OpData(key="producer_byte_rate", value=1000.0)],
                )
            ],
        ),
        (((CLUSTER, Operation.ALTER_CONFIGS), CLUSTER_DENIED),),
    ),
    Step("describe_log_dirs", 4, lambda n: describe_log_dirs.DescribeLogDirsRequest(topics=None), (C_DESCRIBE,)),
)
