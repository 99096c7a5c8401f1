"""Takes a static member out of its group (KIP-345), which aiokafka's consumer never does by itself.

A static member keeps its partitions while it is away, until the session timeout. That is right for a restart, and wrong
for a member that will not come back: its partitions would wait for nothing.
"""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError
from logqueue_consumers.transactions.wire import LogClient
from logqueue_consumers.wills.settlement import leave as leave_group

from logqueue.errors import LogqueueError
from logqueue.jobs.settings import Settings

LEAVE_SECONDS = 5.0


class NotLeft(LogqueueError):
    """The group still counts the member, until its session timeout."""


async def leave(settings: Settings, *, group: str, instance_id: str) -> None:
    """Take the member out; raises NotLeft where the log does not confirm it within LEAVE_SECONDS."""
    client = LogClient(settings)
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await client.start()
            await leave_group(client, group, instance_id=instance_id)
    except (KafkaError, TimeoutError, OSError) as error:
        raise NotLeft(f"{instance_id} could not leave group {group}: {error!r}") from error
    finally:
        await client.stop()
