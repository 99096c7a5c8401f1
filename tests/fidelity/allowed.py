"""Differences from Apache Kafka 4.2 that are meant, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fidelity.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A difference that is meant: which steps, where in the answer, which values, and why."""

    action: str
    path: str
    reason: str
    parts: bool = False  # the two logs went different ways: neither the rest of the answer nor later steps are compared
    when: Callable[[Any, Any], bool] = lambda ours, theirs: True
    after: Callable[[Step], bool] | None = None  # only in such a step, or behind one


LONGEST_METADATA = 4096


def _has_too_long_metadata(step: Step) -> bool:
    return step.action.endswith("offset_commit") and dict(step.arguments).get("metadata", 0) > LONGEST_METADATA


def _cuts_into_a_batch(step: Step) -> bool:
    return step.action == "delete_records" and dict(step.arguments)["to"] == "middle"


def _names_no_topic(step: Step) -> bool:
    return step.action == "describe_topic_partitions" and "<empty>" in dict(step.arguments)["topics"]


def _are_part_of(ours: Any, theirs: Any) -> bool:
    """Whether a list has all of ours, and more."""
    is_list = isinstance(ours, list) and isinstance(theirs, list)
    return is_list and len(theirs) > len(ours) and all(one in theirs for one in ours)


def _has_one_more_groups(ours: Any, theirs: Any) -> bool:
    """Whether one of two lists of groups has all of the other, and more."""
    return _are_part_of(ours, theirs) or _are_part_of(theirs, ours)


ALLOWED: tuple[Allowed, ...] = (
    Allowed(
        action="produce",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (76, -1),
        parts=True,
        reason="a codec number that does not exist is an internal error to Kafka, and has its own error here",
    ),
    Allowed(
        action="produce",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (21, 76),
        reason="of two faults, acks that do not exist and zstd in an old version, the other one is told first",
    ),
    Allowed(
        action="produce",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (21, -1),
        reason="of two faults, acks that do not exist and a codec number that does not, the other one is told first",
    ),
    Allowed(
        action="produce",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (32, 0),
        parts=True,
        reason="a producer that claims broker time is refused; Kafka takes the claim away and rewrites the batch",
    ),
    Allowed(
        action="produce",
        path="answer",
        when=lambda ours, theirs: (ours, theirs) == ("<connection closed>", "<sent>"),
        parts=True,
        reason="the same without acknowledgement, where the end of the connection is the only answer",
    ),
    Allowed(
        action="fetch|list_offsets",
        path=r".*\.(last_stable_offset|partitions\[\d+\]\.offset)",
        when=lambda ours, theirs: theirs < ours,
        after=_cuts_into_a_batch,
        reason="where records were deleted up to the middle of an open transaction's batch, Kafka tells the batch's"
        " first offset, which is before the log's start",
    ),
    Allowed(
        action="fetch",
        path=r".*\.aborted_transactions",
        when=_are_part_of,
        reason="Kafka tells those up to the next entry of its sparse index or the log's end; here those among the"
        " records of the answer, which are all that a consumer looks for",
    ),
    Allowed(
        action="incremental_alter_configs",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (42, 40),
        reason="settings of no group are refused for that, whatever else is wrong with them",
    ),
    Allowed(
        action="metadata_by_id",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (100, -1),
        parts=True,
        reason="a topic asked for by neither name nor id is an internal error to Kafka, and an unknown id here",
    ),
    Allowed(
        action="describe_topic_partitions",
        path=r".*\.error_code",
        when=lambda ours, theirs: theirs == -1,
        parts=True,
        reason="an empty name is an internal error to Kafka that hides all other topics, and an invalid name here",
    ),
    Allowed(
        action="describe_topic_partitions",
        path=r"answer\.(topics|next_cursor)",
        after=_names_no_topic,
        parts=True,
        reason="the same, where the page ends early",
    ),
    Allowed(
        action="incremental_alter_configs",
        path=r".*\.error_code",
        when=lambda ours, theirs: theirs == -1,
        reason="an operation that does not exist is an internal error to Kafka, and an invalid request here",
    ),
    Allowed(
        action="describe_consumer_groups|consumer_heartbeat",
        path=r".*assignment.*",
        parts=True,
        reason="which of two equal members gets the partition that is over depends on the order of a hash map in Kafka",
    ),
    Allowed(
        action="consumer_heartbeat",
        path=r"answer of .*",
        when=lambda ours, theirs: ours == "<waits>" and theirs["error_code"] == 27,
        parts=True,
        reason="a heartbeat that is refused in the end has disturbed the classic group that it would upgrade, in Kafka",
    ),
    Allowed(
        action="describe_configs|describe_broker_configs",
        path=r".*\[min\.insync\.replicas\]\.(config_source|synonyms)",
        reason="Kafka stores a cluster-wide default when eligible leader replicas (KIP-966) are on; here are none",
    ),
    Allowed(
        action="create_topic.*",
        path=r".*\[min\.insync\.replicas\]\.config_source",
        reason="the same",
    ),
    Allowed(
        action="join",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (25, -1),
        parts=True,
        reason="a member with a pending id that names an instance is an internal error to Kafka",
    ),
    Allowed(
        action="offset_delete|delete_groups|describe_groups",
        path=r".*\.(error_code|group_state)",
        when=lambda ours, theirs: (ours, theirs) in ((69, 0), ("Dead", "Empty")),
        parts=True,
        reason="a commit that is refused whole (metadata too long) leaves an empty group in Kafka, and nothing here",
    ),
    Allowed(
        action="offset_commit",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) in ((22, 25), (69, 25)),
        after=_has_too_long_metadata,
        parts=True,
        reason="the same: to a member of a group that is there, its id is what is unknown",
    ),
    Allowed(
        action="join",
        path=r".*\.error_code",
        when=lambda ours, theirs: (ours, theirs) == (25, 23),
        after=_has_too_long_metadata,
        parts=True,
        reason="the same: a group that is there looks at the protocol first",
    ),
    Allowed(
        action="describe_groups",
        path=r".*\.(error_code|group_state)",
        when=lambda ours, theirs: theirs in (69, "Dead"),
        after=_has_too_long_metadata,
        parts=True,
        reason="in Kafka the group that such a commit leaves is seen by nobody until a generation of it is recorded",
    ),
    Allowed(
        action="list_groups",
        path=r"answer\.groups",
        when=_has_one_more_groups,
        after=_has_too_long_metadata,
        parts=True,
        reason="such a commit leaves a group in Kafka that lists may show at once, late, or never",
    ),
)


def allowance(step: Step, path: str, ours: Any, theirs: Any, before: Sequence[Step] = ()) -> Allowed | None:
    """What allows a difference; `before` are the steps up to this one. None if nothing does."""
    for allowed in ALLOWED:
        if (
            re.fullmatch(allowed.action, step.action)
            and re.fullmatch(allowed.path, path)
            and allowed.when(ours, theirs)
            and (allowed.after is None or any(map(allowed.after, before)))
        ):
            return allowed
    return None
