"""Whether a log can process exactly once, and a worker's first session there. Shell."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping

import structlog
from aiokafka.errors import KafkaError

from logqueue.clock import Clock
from logqueue.jobs.connection import start_client
from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.settings import Settings
from logqueue.protocol.api import ApiKey
from logqueue.protocol.messages.api_versions import ApiVersionsResponse
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.status.records import StatusRecords
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.transactions.exactly_once import ExactlyOnce
from logqueue_consumers.transactions.transaction import TransactionalProducer
from logqueue_consumers.transactions.wire import LogClient

log = structlog.get_logger(__name__)

TRANSACTION_FEATURE = "transaction.version"
IMPLICIT_LEVEL = 2
NEEDED = {
    ApiKey.INIT_PRODUCER_ID: 0,
    ApiKey.ADD_PARTITIONS_TO_TXN: 0,
    ApiKey.ADD_OFFSETS_TO_TXN: 0,
    ApiKey.TXN_OFFSET_COMMIT: 3,
    ApiKey.END_TXN: 0,
    ApiKey.OFFSET_FETCH: 7,
    ApiKey.PRODUCE: 3,
}
"""Versions that KIP-98 and KIP-447 ask for."""
IMPLICIT = {ApiKey.PRODUCE: 12, ApiKey.TXN_OFFSET_COMMIT: 5, ApiKey.END_TXN: 5}
"""... and KIP-890."""
SUFFIX_CHARS = 16
MAX_NAME_CHARS = 120
"""Of prefix and group: the id stands in each commit's metadata, beside an offset map that may fill it."""


async def open_transactions(
    settings: Settings,
    records: StatusRecords,
    partitions: TopicPartitions,
    *,
    group: str,
    instance_id: str | None,
    is_required: bool,
    limits: WorkerLimits,
    clock: Clock,
) -> ExactlyOnce | None:
    """A delivery in transactions; None, with the reason logged, where the log has none.

    `is_required` when somebody asked for exactly this: then InvalidSetting says why it cannot be. Raises
    BrokerUnreachable.
    """
    client = await start_client(lambda: LogClient(settings), settings)
    delivery = None
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            versions = await client.api_versions()
            reason = what_is_missing(_highest(versions))
            if reason is None:
                producer = TransactionalProducer(
                    client,
                    transactional_id_of(settings.topic_prefix, group, instance_id),
                    clock=clock,
                    timeout_ms=limits.transaction_timeout_ms,
                    compression=settings.compression,
                    batch_bytes=limits.batch_bytes,
                    max_backoff_s=limits.max_backoff_s,
                    is_implicit=is_implicit(versions),
                )
                await producer.renew()
                delivery = ExactlyOnce(client, producer, records, partitions, limits=limits)
                return delivery
    except (KafkaError, TimeoutError, OSError) as error:
        reason = f"no session for transactions: {error!r}"
    finally:
        if delivery is None:
            await client.stop()
    if is_required:
        raise InvalidSetting(f"LOGQUEUE_PROCESSING: exactly_once is not possible at {settings.bootstrap}: {reason}")
    log.warning("jobs are processed at least once", reason=reason)
    return None


def what_is_missing(highest: Mapping[int, int]) -> str | None:
    """Why a log that serves these highest versions cannot process exactly once; None if it can."""
    for key, version in NEEDED.items():
        if highest.get(key, -1) < version:
            return f"the broker does not serve {key.name} v{version} (KIP-98, KIP-447)"
    return None


def is_implicit(versions: ApiVersionsResponse) -> bool:
    """Whether Produce and TxnOffsetCommit add to transactions by themselves (KIP-890)."""
    level = {feature.name: feature.max_version_level for feature in versions.finalized_features}
    highest = _highest(versions)
    return level.get(TRANSACTION_FEATURE, 0) >= IMPLICIT_LEVEL and all(
        highest.get(key, -1) >= version for key, version in IMPLICIT.items()
    )


def transactional_id_of(prefix: str, group: str, instance_id: str | None) -> str:
    """Unique to the process; a static member has its own after a restart, which ends what its former life left open."""
    suffix = (
        hashlib.sha256(instance_id.encode()).hexdigest()[:SUFFIX_CHARS]
        if instance_id is not None
        else secrets.token_hex(SUFFIX_CHARS // 2)
    )
    name = f"{prefix}{group}"
    if len(name) > MAX_NAME_CHARS:
        name = name[:MAX_NAME_CHARS] + hashlib.sha256(name.encode()).hexdigest()[:SUFFIX_CHARS]
    return f"{name}-{suffix}"


def _highest(versions: ApiVersionsResponse) -> dict[int, int]:
    return {served.api_key: served.max_version for served in versions.api_keys}
