"""Classic groups: join, sync, heartbeat, leave, describe, list, delete."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from logqueue.protocol.api import ApiKey
from tests.fidelity.actions.slots import ANY_GROUP, GROUPS, MEMBERS
from tests.fidelity.messages import Plain
from tests.fidelity.session import BUSY, Session, subscription
from tests.fidelity.steps import action, mostly, versions

FORGETS = "<Kafka forgets the group until it starts again>"

GENERATION = mostly("own", "next", "before", "none")
FIRST_MEMBERS_VERSION = 3
OWN_IDS = {"own": 0, "next": 1, "before": -1}


def is_empty_consumer_group(s: Session, group: str) -> bool:
    """Whether a group of the new protocol has no members."""
    answer = s.ask("list_groups", 5, states_filter=["Empty"], types_filter=["consumer"])
    return any(found.group_id == s.name(group) for found in getattr(answer, "groups", ()))


def generation(s: Session, group: str, member: str, which: str) -> int:
    """The generation that a step means."""
    return s.members[group, member].generation + OWN_IDS[which] if which in OWN_IDS else -1


@action(
    ApiKey.JOIN_GROUP,
    weight=12,
    group=mostly("g0", "g0", "g0", "g1", "c0", "<empty>"),
    member=MEMBERS,
    identity=mostly("own", "own", "own", "own", "none", "stranger"),
    protocols=mostly(("range", "roundrobin"), ("range",), ("roundrobin",), ("sticky",), ()),
    kind=mostly("consumer", "consumer", "consumer", "connect", ""),
    instance=mostly(None, None, None, "i0", "i1"),
    topics=mostly(("t0",), ("t0", "t1"), ("t2",)),
    session_timeout_ms=mostly(60_000, 60_000, 60_000, 60_000, 1, 99_999_999),
    version=versions(ApiKey.JOIN_GROUP),
)
def join(
    s: Session,
    *,
    group: str,
    member: str,
    identity: str,
    protocols: tuple[str, ...],
    kind: str,
    instance: str | None,
    topics: tuple[str, ...],
    session_timeout_ms: int,
    version: int,
) -> Plain:
    if (group, member) in s.parked:
        return BUSY
    state = s.members[group, member]
    state.instance_id = instance
    ids = {"own": state.member_id, "none": "", "stranger": "somebody"}
    if ids[identity] and is_empty_consumer_group(s, group):
        return FORGETS
    metadata = subscription(*(s.name(topic) for topic in topics))
    s.park(
        group,
        member,
        "join_group",
        version,
        group_id=s.name(group),
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=60_000,
        member_id=ids[identity],
        group_instance_id=instance,
        protocol_type=kind,
        protocols=[{"name": name, "metadata": metadata} for name in protocols],
    )
    return None


@action(
    ApiKey.SYNC_GROUP,
    weight=10,
    group=GROUPS,
    member=MEMBERS,
    which=mostly("own", "own", "own", "next", "before", "none"),
    assigns=mostly("all", "none", "stranger"),
    kind=mostly(None, "consumer", "connect"),
    version=versions(ApiKey.SYNC_GROUP),
)
def sync(s: Session, *, group: str, member: str, which: str, assigns: str, kind: str | None, version: int) -> Plain:
    if (group, member) in s.parked:
        return BUSY
    state = s.members[group, member]
    to = sorted({"all": state.members, "none": [], "stranger": ["somebody"]}[assigns], key=s.names_of)
    s.park(
        group,
        member,
        "sync_group",
        version,
        group_id=s.name(group),
        generation_id=generation(s, group, member, which),
        member_id=state.member_id,
        group_instance_id=state.instance_id,
        protocol_type=kind,
        protocol_name=state.protocol if kind else None,
        # The length tells the member's place among the members, so that answers can be told apart.
        assignments=[
            {"member_id": id_, "assignment": bytes(n + 1)} for n, id_ in enumerate(sorted(to, key=s.names_of))
        ],
    )
    return None


@action(
    ApiKey.HEARTBEAT,
    weight=4,
    group=ANY_GROUP,
    member=MEMBERS,
    which=GENERATION,
    instance=mostly("own", "other"),
    version=versions(ApiKey.HEARTBEAT),
)
def heartbeat(s: Session, *, group: str, member: str, which: str, instance: str, version: int) -> Plain:
    state = s.members[group, member]
    return s.tell(
        "heartbeat",
        version,
        group_id=s.name(group),
        generation_id=generation(s, group, member, which),
        member_id=state.member_id,
        group_instance_id=state.instance_id if instance == "own" else "i9",
    )


@action(
    ApiKey.LEAVE_GROUP,
    weight=3,
    group=ANY_GROUP,
    members=st.lists(MEMBERS, min_size=1, max_size=2, unique=True),
    by_instance=mostly(False, True),
    version=versions(ApiKey.LEAVE_GROUP),
)
def leave(s: Session, *, group: str, members: list[str], by_instance: bool, version: int) -> Plain:
    states = [s.members[group, member] for member in members]
    if version < FIRST_MEMBERS_VERSION:
        return s.tell("leave_group", version, group_id=s.name(group), member_id=states[0].member_id)
    identities: list[dict[str, Any]] = [
        {"member_id": "" if by_instance else state.member_id, "group_instance_id": state.instance_id}
        for state in states
    ]
    return s.tell("leave_group", version, group_id=s.name(group), members=identities)


@action(
    ApiKey.DESCRIBE_GROUPS,
    weight=4,
    groups=st.lists(ANY_GROUP, min_size=1, max_size=3, unique=True),
    operations=st.booleans(),
    version=versions(ApiKey.DESCRIBE_GROUPS),
)
def describe_groups(s: Session, *, groups: list[str], operations: bool, version: int) -> Plain:
    names = [s.name(group) for group in groups]
    return s.tell("describe_groups", version, groups=names, include_authorized_operations=operations)


@action(
    ApiKey.LIST_GROUPS,
    states=mostly([], ["Stable"], ["stable"], ["Empty", "PreparingRebalance"], ["CompletingRebalance"], ["Nonsense"]),
    types=mostly([], ["classic"], ["Consumer"], ["nonsense"]),
    version=versions(ApiKey.LIST_GROUPS),
)
def list_groups(s: Session, *, states: list[str], types: list[str], version: int) -> Plain:
    answer = s.ask("list_groups", version, states_filter=states, types_filter=types)
    if not isinstance(answer, str):
        answer.groups = [group for group in answer.groups if group.group_id.startswith(s.prefix)]
    return s.plain(answer)


@action(
    ApiKey.DELETE_GROUPS,
    groups=st.lists(ANY_GROUP, min_size=1, max_size=2, unique=True),
    version=versions(ApiKey.DELETE_GROUPS),
)
def delete_groups(s: Session, *, groups: list[str], version: int) -> Plain:
    return s.tell("delete_groups", version, groups_names=[s.name(group) for group in groups])


@action(
    ApiKey.FIND_COORDINATOR,
    weight=1,
    keys=st.lists(ANY_GROUP, min_size=1, max_size=2, unique=True),
    kind=mostly(0, 1, 2, 7),
    version=versions(ApiKey.FIND_COORDINATOR, at_least=1),
)
def find_coordinator(s: Session, *, keys: list[str], kind: int, version: int) -> Plain:
    names = [s.name(key) for key in keys]
    return s.tell("find_coordinator", version, key=names[0], key_type=kind, coordinator_keys=names)
