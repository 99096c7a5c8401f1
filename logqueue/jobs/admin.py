"""Creating the job topics with their configurations, on any Kafka. Shell over aiokafka's admin client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from logqueue.errors import ErrorCode, LogqueueError
from logqueue.jobs.connection import new_admin, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec, unique_specs

BROKER_DEFAULT = -1  # KIP-464: replication factor of the broker's `default.replication.factor`
CREATE_TIMEOUT_S = 30.0
POLL_S = 0.05

_RETRIABLE = frozenset(
    {
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.BROKER_NOT_AVAILABLE,
        ErrorCode.INVALID_REPLICATION_FACTOR,  # fewer brokers up than replicas asked for: a cluster that is starting
    }
)


class TopicsNotCreated(LogqueueError):
    """The log refused to create a topic; the text has its reason."""


async def ensure_topics(settings: Settings, specs: Iterable[TopicSpec]) -> dict[str, int]:
    """Create those of the topics that are missing; returns the number of partitions of each.

    Existing topics are left as they are. Others may create the same topics at the same time. Returns once every topic
    is visible. Raises BrokerUnreachable, or TopicsNotCreated after CREATE_TIMEOUT_S or at a refusal.
    """
    wanted = {spec.name: spec for spec in unique_specs(specs)}
    admin: AIOKafkaAdminClient = await start_client(lambda: new_admin(settings), settings)
    try:
        async with asyncio.timeout(CREATE_TIMEOUT_S):
            return await _create_missing(admin, wanted)
    except TimeoutError:
        raise TopicsNotCreated(
            f"Topics {', '.join(wanted)} could not be created at {settings.bootstrap} within {CREATE_TIMEOUT_S:g} s"
        ) from None
    except (KafkaError, OSError) as error:
        raise TopicsNotCreated(f"Topics could not be created at {settings.bootstrap}: {error!r}") from None
    finally:
        await stop_client(admin)


async def _create_missing(admin: AIOKafkaAdminClient, wanted: dict[str, TopicSpec]) -> dict[str, int]:
    created: set[str] = set()
    while True:
        # All topics are listed: metadata of a named topic would create it, without our configurations.
        existing = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        missing = [spec for name, spec in wanted.items() if not existing.get(name)]
        if not missing:
            return {name: existing[name] for name in wanted}
        sized = [_sized(spec, existing) for spec in missing if spec.name not in created]
        created |= await _create(admin, sized)
        await asyncio.sleep(POLL_S)


def _sized(spec: TopicSpec, existing: Mapping[str, int]) -> TopicSpec:
    """The spec with as many partitions as the topic that it is to be like."""
    count = existing.get(spec.like) if spec.like is not None else None
    return spec if not count else replace(spec, partitions=count)


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> set[str]:
    """Ask for the topics; the names of those that exist from now on."""
    if not specs:
        return set()
    response = await admin.create_topics([_new_topic(spec) for spec in specs])
    made = set()
    for name, code, *detail in response.topic_errors:
        if code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            made.add(name)
        elif code not in _RETRIABLE:
            reason = (detail[0] if detail else None) or f"error code {code}"
            raise TopicsNotCreated(f"Topic {name} was not created: {reason}")
    return made


def _new_topic(spec: TopicSpec) -> NewTopic:
    topic = NewTopic(
        name=spec.name, num_partitions=spec.partitions, replication_factor=1, topic_configs=dict(spec.configs)
    )
    topic.replication_factor = BROKER_DEFAULT  # the constructor refuses it, brokers do not
    return topic
