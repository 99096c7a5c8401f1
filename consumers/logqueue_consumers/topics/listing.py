"""Which topics exist, and with how many partitions. Shell.

aiokafka's consumer keeps no metadata of topics it does not follow, and asking for one topic by name may create it: all
are listed.
"""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

from logqueue.jobs.connection import new_admin, start_client, stop_client
from logqueue.jobs.settings import Settings


async def partition_counts(settings: Settings) -> dict[str, int]:
    """Number of partitions of every topic on the log; BrokerUnreachable when it does not answer."""
    admin: AIOKafkaAdminClient = await start_client(lambda: new_admin(settings), settings)
    try:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await stop_client(admin)
