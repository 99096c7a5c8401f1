"""Committed offsets: commit, fetch, delete."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from logqueue.protocol.api import ApiKey
from tests.fidelity.actions.groups import GENERATION, generation
from tests.fidelity.actions.slots import ANY_GROUP, ANY_TOPIC, PARTITIONS
from tests.fidelity.messages import NO_UUID, Plain
from tests.fidelity.session import UNSETTLED, Session
from tests.fidelity.steps import action, mostly, versions

FIRST_GROUPS_VERSION = 8
FIRST_IDS_VERSION = 10
METADATA_SIZES = mostly(4, 0, 4096, 4097)


@action(
    ApiKey.OFFSET_COMMIT,
    weight=6,
    group=ANY_GROUP,
    member=mostly("m0", "m1", "m2", "nobody"),
    which=GENERATION,
    topic=ANY_TOPIC,
    partition=PARTITIONS,
    offset=mostly(5, 0, 77, -1, -2),
    metadata=METADATA_SIZES,
    epoch=mostly(-1, 0, 3),
    version=versions(ApiKey.OFFSET_COMMIT),
)
def offset_commit(
    s: Session,
    *,
    group: str,
    member: str,
    which: str,
    topic: str,
    partition: int,
    offset: int,
    metadata: int,
    epoch: int,
    version: int,
) -> Plain:
    state = s.members[group, member]
    committed = {"partition_index": partition, "committed_offset": offset, "committed_leader_epoch": epoch}
    committed["committed_metadata"] = "m" * metadata or None  # type: ignore[assignment]
    return s.tell(
        "offset_commit",
        version,
        group_id=s.name(group),
        generation_id_or_member_epoch=generation(s, group, member, which),
        member_id="" if member == "nobody" else state.member_id,
        group_instance_id=state.instance_id,
        topics=[_topic(s, topic, version) | {"partitions": [committed]}],
    )


def _topic(s: Session, topic: str, version: int) -> dict[str, Any]:
    if version < FIRST_IDS_VERSION:
        return {"name": s.name(topic)}
    return {"topic_id": s.topic_ids.get(s.name(topic), NO_UUID if topic == "<empty>" else b"unknown topic id")}


@action(
    ApiKey.OFFSET_FETCH,
    weight=6,
    groups=st.lists(ANY_GROUP, min_size=1, max_size=2, unique=True),
    topics=mostly(None, ["t0"], ["t1", "missing"], ["t2"], []),
    stable=st.booleans(),
    member=mostly(None, "m0", "m1"),
    version=versions(ApiKey.OFFSET_FETCH),
)
def offset_fetch(
    s: Session, *, groups: list[str], topics: list[str] | None, stable: bool, member: str | None, version: int
) -> Plain:
    if topics is None and version < 2:
        topics = []
    if topics is None and "<empty>" in groups:  # the group without a name is everybody's
        topics = ["t0"]
    if version < FIRST_GROUPS_VERSION:
        named = None if topics is None else [{"name": s.name(t), "partition_indexes": [0, 1]} for t in topics]
        fields: dict[str, Any] = {"group_id": s.name(groups[0]), "topics": named}
        return s.tell("offset_fetch", version, again=UNSETTLED, require_stable=stable, **fields)
    wanted: list[dict[str, Any]] = []
    for group in groups:
        named = None if topics is None else [_topic(s, t, version) | {"partition_indexes": [0, 1]} for t in topics]
        wanted.append({"group_id": s.name(group), "topics": named})
        if member is not None:
            state = s.members[group, member]
            wanted[-1] |= {"member_id": state.member_id, "member_epoch": state.generation}
    answer = s.ask("offset_fetch", version, again=UNSETTLED, groups=wanted, require_stable=stable)
    if not isinstance(answer, str):
        for group_answer in answer.groups:  # in the order of a hash map in Kafka; ids say nothing of the order
            group_answer.topics.sort(key=lambda each: (each.name, str(s.plain(each.partitions))))
    return s.plain(answer)


@action(
    ApiKey.OFFSET_DELETE,
    group=ANY_GROUP,
    topic=mostly("t0", "t1", "t2", "missing"),
    partition=PARTITIONS,
)
def offset_delete(s: Session, *, group: str, topic: str, partition: int) -> Plain:
    topics = [{"name": s.name(topic), "partitions": [{"partition_index": partition}]}]
    return s.tell("offset_delete", 0, group_id=s.name(group), topics=topics)
