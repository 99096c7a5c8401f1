"""Groups of the consumer protocol (KIP-848)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from tests.fidelity.actions.slots import MEMBERS
from tests.fidelity.messages import Plain
from tests.fidelity.session import Session
from tests.fidelity.steps import action, mostly, versions

EPOCHS = {"join": 0, "leave": -1, "leave for a while": -2, "nonsense": -3}


@action(
    ApiKey.CONSUMER_GROUP_HEARTBEAT,
    weight=14,
    group=mostly("c0", "c0", "c0", "c1", "g0", "<empty>"),
    member=MEMBERS,
    epoch=mostly("own", "own", "own", "join", "join", "before", "next", "leave", "leave for a while", "nonsense"),
    topics=mostly(("t0",), None, ("t0", "t1"), ("t2",), ()),
    regex=mostly(None, None, None, "-t[01]", "(bad"),
    assignor=mostly(None, "uniform", "range", "nonsense"),
    owned=mostly("assigned", None, "nothing"),
    instance=mostly(None, None, None, "i0"),
    rebalance_timeout_ms=mostly(60_000, 300_000, -1),  # after one of 0 ms the next answer is a matter of luck
    version=versions(ApiKey.CONSUMER_GROUP_HEARTBEAT),
)
def consumer_heartbeat(
    s: Session,
    *,
    group: str,
    member: str,
    epoch: str,
    topics: tuple[str, ...] | None,
    regex: str | None,
    assignor: str | None,
    owned: str | None,
    instance: str | None,
    rebalance_timeout_ms: int,
    version: int,
) -> Plain:
    state = s.members[group, member]
    if epoch == "join" or not state.member_id:
        state.member_id = state.member_id or f"{s.prefix}-{group}-{member}"
        state.instance_id = instance
    own = state.generation if state.generation >= 0 else 0
    number = EPOCHS.get(epoch, own + {"own": 0, "before": -1, "next": 1}.get(epoch, 0))
    names = None if topics is None else [s.name(topic) for topic in topics]
    parts: list[dict[str, Any]] | None = {"assigned": state.assigned, None: None, "nothing": []}[owned]
    if number == 0:  # whoever joins says what it wants and owns nothing
        names, parts = names if names is not None or regex else [s.name("t0")], []
    answer = s.ask(
        "consumer_group_heartbeat",
        version,
        group_id=s.name(group),
        member_id=state.member_id,
        member_epoch=number,
        instance_id=state.instance_id,
        rebalance_timeout_ms=60_000 if number == 0 and rebalance_timeout_ms < 0 else rebalance_timeout_ms,
        subscribed_topic_names=names,
        subscribed_topic_regex=None if regex is None else s.prefix + regex,
        server_assignor=assignor,
        topic_partitions=parts,
    )
    if not isinstance(answer, str) and answer.error_code == ErrorCode.NONE:
        state.generation = answer.member_epoch
        if answer.assignment is not None:
            state.assigned = [
                {"topic_id": part.topic_id, "partitions": part.partitions}
                for part in answer.assignment.topic_partitions
            ]
    if regex is not None:  # Regular expressions are resolved aside, and soon.
        s.settle_aside()
    return s.plain(answer)


@action(
    ApiKey.CONSUMER_GROUP_DESCRIBE,
    weight=5,
    groups=st.lists(mostly("c0", "c1", "g0", "nobody", "<empty>"), min_size=1, max_size=2, unique=True),
    operations=st.booleans(),
    version=versions(ApiKey.CONSUMER_GROUP_DESCRIBE),
)
def describe_consumer_groups(s: Session, *, groups: list[str], operations: bool, version: int) -> Plain:
    names = [s.name(group) for group in groups]
    return s.tell("consumer_group_describe", version, group_ids=names, include_authorized_operations=operations)
