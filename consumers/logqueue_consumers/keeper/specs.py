"""The keepers that every worker process offers: which topics they keep, and with which machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from logqueue_consumers.flows.machine import flows_spec
from logqueue_consumers.keeper.command_board import CommandBoard
from logqueue_consumers.keeper.machine import KeeperSpec
from logqueue_consumers.keeper.scheduler import scheduler_spec


def keeper_specs(
    settings: Settings, encode_status: Callable[[JobStatus], bytes], board: CommandBoard
) -> Sequence[KeeperSpec]:
    """One per topic. Every process of a prefix must have the same ones: a group shares out what its members know."""
    return [scheduler_spec(settings.topics, encode_status, board), flows_spec(settings.topics, encode_status)]


def keeper_topics(settings: Settings) -> Sequence[TopicSpec]:
    """What the keepers need on the log, made where it is missing."""
    names = settings.topics
    return [names.schedules_spec(), names.flows_spec(), names.status_spec(), names.control_spec()]
