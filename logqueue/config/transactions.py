"""Broker settings of transactions and idempotent producers, with the names and defaults of Apache Kafka 4.2."""

from __future__ import annotations

from logqueue.config.properties import ConfigType, Properties, Scope, setting


class TransactionSettings(Properties):
    """How producers are remembered and transactions end."""

    transaction_max_timeout_ms: int = setting(
        900_000,
        "transaction.max.timeout.ms",
        ConfigType.INT,
        "Longest transaction timeout that a producer may ask for.",
        minimum=1,
    )
    transaction_state_log_num_partitions: int = setting(
        1,  # Kafka: 50, to spread them over brokers. Here each one that is written to costs a round of fsyncs one more.
        "transaction.state.log.num.partitions",
        ConfigType.INT,
        "Partitions of __transaction_state, fixed when it is created.",
        minimum=1,
        maximum=10_000,
    )
    transaction_state_log_segment_bytes: int = setting(
        104_857_600,
        "transaction.state.log.segment.bytes",
        ConfigType.INT,
        "Segment size of __transaction_state.",
        minimum=1,
    )
    transactional_id_expiration_ms: int = setting(
        604_800_000,
        "transactional.id.expiration.ms",
        ConfigType.INT,
        "How long an idle transactional id is remembered.",
        minimum=1,
    )
    transaction_abort_timed_out_transaction_cleanup_interval_ms: int = setting(
        10_000,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        ConfigType.INT,
        "How often transactions that ran out of time are aborted.",
        minimum=1,
    )
    transaction_remove_expired_transaction_cleanup_interval_ms: int = setting(
        3_600_000,
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        ConfigType.INT,
        "How often expired transactional ids are removed.",
        minimum=1,
    )
    transaction_partition_verification_enable: bool = setting(
        True,
        "transaction.partition.verification.enable",
        ConfigType.BOOLEAN,
        "Whether a transactional batch needs its partition in the transaction (KIP-890).",
        scope=Scope.CLUSTER,
    )
    producer_id_expiration_ms: int = setting(
        86_400_000,
        "producer.id.expiration.ms",
        ConfigType.INT,
        "How long an idle producer id is remembered.",
        minimum=1,
        scope=Scope.CLUSTER,
    )
