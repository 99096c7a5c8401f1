"""Which guard stands before which API. An API without one is refused as a whole, so none is forgotten in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logqueue.broker.security.guards import cluster, data, groups, topics, transactions
from logqueue.broker.security.guards.access import Access, Verdict
from logqueue.protocol.api import ApiKey
from logqueue.security.acl import Operation

Guard = Callable[[Access, Any, int], Verdict]

GUARDS: dict[int, Guard] = {
    # Records
    ApiKey.PRODUCE: data.guard_produce,
    ApiKey.FETCH: data.guard_fetch,
    ApiKey.LIST_OFFSETS: data.guard_list_offsets,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: data.guard_offset_for_leader_epoch,
    ApiKey.DELETE_RECORDS: data.guard_delete_records,
    ApiKey.DESCRIBE_PRODUCERS: data.guard_describe_producers,
    # Topics
    ApiKey.METADATA: topics.guard_metadata,
    ApiKey.DESCRIBE_CLUSTER: topics.guard_describe_cluster,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: topics.guard_describe_topic_partitions,
    ApiKey.CREATE_TOPICS: topics.guard_create_topics,
    ApiKey.CREATE_PARTITIONS: topics.guard_create_partitions,
    ApiKey.DELETE_TOPICS: topics.guard_delete_topics,
    # Groups
    ApiKey.FIND_COORDINATOR: groups.guard_find_coordinator,
    ApiKey.JOIN_GROUP: groups.guard_member,
    ApiKey.SYNC_GROUP: groups.guard_member,
    ApiKey.HEARTBEAT: groups.guard_member,
    ApiKey.LEAVE_GROUP: groups.guard_member,
    ApiKey.OFFSET_COMMIT: groups.guard_offset_commit,
    ApiKey.OFFSET_FETCH: groups.guard_offset_fetch,
    ApiKey.OFFSET_DELETE: groups.guard_offset_delete,
    ApiKey.DESCRIBE_GROUPS: groups.guard_describe_groups,
    ApiKey.LIST_GROUPS: groups.guard_list_groups,
    ApiKey.DELETE_GROUPS: groups.guard_delete_groups,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: groups.guard_consumer_group_heartbeat,
    ApiKey.CONSUMER_GROUP_DESCRIBE: groups.guard_consumer_group_describe,
    # Producers
    ApiKey.INIT_PRODUCER_ID: transactions.guard_init_producer_id,
    ApiKey.ADD_PARTITIONS_TO_TXN: transactions.guard_add_partitions_to_txn,
    ApiKey.ADD_OFFSETS_TO_TXN: transactions.guard_add_offsets_to_txn,
    ApiKey.END_TXN: transactions.guard_end_txn,
    ApiKey.TXN_OFFSET_COMMIT: transactions.guard_txn_offset_commit,
    ApiKey.WRITE_TXN_MARKERS: transactions.guard_write_txn_markers,
    ApiKey.DESCRIBE_TRANSACTIONS: transactions.guard_describe_transactions,
    ApiKey.LIST_TRANSACTIONS: transactions.guard_list_transactions,
    # The cluster
    ApiKey.API_VERSIONS: cluster.guard_nothing,
    ApiKey.SASL_HANDSHAKE: cluster.guard_nothing,
    ApiKey.SASL_AUTHENTICATE: cluster.guard_nothing,
    ApiKey.DESCRIBE_CONFIGS: cluster.guard_describe_configs,
    ApiKey.ALTER_CONFIGS: cluster.guard_alter_configs,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: cluster.guard_alter_configs,
    ApiKey.DESCRIBE_ACLS: cluster.needs(Operation.DESCRIBE),
    ApiKey.CREATE_ACLS: cluster.guard_create_acls,
    ApiKey.DELETE_ACLS: cluster.guard_delete_acls,
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: cluster.needs(Operation.DESCRIBE),
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: cluster.guard_alter_user_scram_credentials,
    ApiKey.DESCRIBE_CLIENT_QUOTAS: cluster.needs(Operation.DESCRIBE_CONFIGS),
    ApiKey.ALTER_CLIENT_QUOTAS: cluster.guard_alter_client_quotas,
    ApiKey.DESCRIBE_LOG_DIRS: cluster.needs(Operation.DESCRIBE),
    ApiKey.ALTER_REPLICA_LOG_DIRS: cluster.guard_alter_replica_log_dirs,
    ApiKey.ELECT_LEADERS: cluster.guard_elect_leaders,
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: cluster.needs(Operation.ALTER),
    ApiKey.LIST_PARTITION_REASSIGNMENTS: cluster.needs(Operation.DESCRIBE),
    ApiKey.DESCRIBE_QUORUM: cluster.needs(Operation.DESCRIBE),
    ApiKey.UPDATE_FEATURES: cluster.needs(Operation.ALTER),
    ApiKey.UNREGISTER_BROKER: cluster.needs(Operation.ALTER),
    ApiKey.LIST_CONFIG_RESOURCES: cluster.needs(Operation.DESCRIBE_CONFIGS),
}
