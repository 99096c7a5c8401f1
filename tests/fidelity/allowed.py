"""Differences from Apache Kafka 4.2 that are meant, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fidelity.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A difference that is meant: which steps, where in the answer, which values, and why."""

    action: str
    path: str
    reason: str
    parts: bool = False  # from here on the two logs are in different states: the rest is not compared
    when: Callable[[Any, Any], bool] = lambda ours, theirs: True


ALLOWED: tuple[Allowed, ...] = (
    Allowed(
        action="describe_configs|describe_broker_configs",
        path=r".*\[min\.insync\.replicas\]\.(config_source|synonyms)",
        reason="Kafka stores a cluster-wide default when eligible leader replicas (KIP-966) are on; here are none",
    ),
    Allowed(
        action="create_topic",
        path=r".*\[min\.insync\.replicas\]\.config_source",
        reason="the same",
    ),
    Allowed(
        action="join",
        path=r".*\.(error_code|member_id)",
        when=lambda ours, theirs: (ours, theirs) == (25, -1) or theirs == "",
        parts=True,
        reason="a member with a pending id that names an instance is an internal error to Kafka",
    ),
    Allowed(
        action="offset_delete|delete_groups",
        path=r".*\.(error_code|topics)",
        when=lambda ours, theirs: (ours, theirs) == (69, 0) or ours == [],
        parts=True,
        reason="a commit that is refused whole (metadata too long) leaves an empty group in Kafka, and nothing here",
    ),
)


def allowance(step: Step, path: str, ours: Any, theirs: Any) -> Allowed | None:
    """What allows a difference; None if nothing does."""
    for allowed in ALLOWED:
        if (
            re.fullmatch(allowed.action, step.action)
            and re.fullmatch(allowed.path, path)
            and allowed.when(ours, theirs)
        ):
            return allowed
    return None
