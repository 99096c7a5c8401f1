"""Producer ids and transactions (KIP-98, KIP-360, KIP-447, KIP-890)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from tests.fidelity.actions.slots import ANY_TOPIC, GROUPS, PARTITIONS
from tests.fidelity.messages import Plain
from tests.fidelity.session import UNSETTLED, Producer, Session
from tests.fidelity.steps import action, mostly, versions

TRANSACTIONAL = mostly("x0", "x1", "p0")
EPOCH_DELTA = mostly(0, 0, 0, -1, 1)
LAST_VERSION_OF_ONE = 3


def producer(s: Session, slot: str) -> Producer:
    """The producer of a slot, or one that no log knows."""
    return s.producers.get(slot) or Producer(producer_id=987_654_321, epoch=0)


@action(
    ApiKey.INIT_PRODUCER_ID,
    weight=4,
    slot=mostly("x0", "x1", "p0", "p1"),
    timeout_ms=mostly(60_000, 60_000, 0, -1, 99_999_999),
    expected=mostly("none", "none", "own", "epoch before", "epoch after", "other id", "half"),
    name=mostly("own", "own", "own", "empty"),
    version=versions(ApiKey.INIT_PRODUCER_ID, at_most=5),
)
def init_producer_id(s: Session, *, slot: str, timeout_ms: int, expected: str, name: str, version: int) -> Plain:
    state = producer(s, slot)
    transactional_id = s.name(slot) if slot.startswith("x") else None
    if name == "empty":
        transactional_id = ""
    named = {
        "none": (-1, -1),
        "own": (state.producer_id, state.epoch),
        "epoch before": (state.producer_id, max(0, state.epoch - 1)),
        "epoch after": (state.producer_id, state.epoch + 1),
        "other id": (555_555, state.epoch),
        "half": (state.producer_id, -1),
    }[expected]
    answer = s.ask(
        "init_producer_id",
        version,
        again=UNSETTLED,
        transactional_id=transactional_id,
        transaction_timeout_ms=timeout_ms,
        producer_id=named[0],
        producer_epoch=named[1],
    )
    if not isinstance(answer, str) and answer.error_code == ErrorCode.NONE and name == "own":
        s.producers[slot] = Producer(answer.producer_id, answer.producer_epoch)
    return s.plain(answer)


@action(
    ApiKey.ADD_PARTITIONS_TO_TXN,
    weight=4,
    slot=TRANSACTIONAL,
    topic=ANY_TOPIC,
    partitions=mostly([0], [0, 1], [9], []),
    epoch=EPOCH_DELTA,
    version=versions(ApiKey.ADD_PARTITIONS_TO_TXN, at_most=3),
)
def add_partitions(s: Session, *, slot: str, topic: str, partitions: list[int], epoch: int, version: int) -> Plain:
    state = producer(s, slot)
    return s.tell(
        "add_partitions_to_txn",
        version,
        again=UNSETTLED,
        v3_and_below_transactional_id=s.name(slot),
        v3_and_below_producer_id=state.producer_id,
        v3_and_below_producer_epoch=state.epoch + epoch,
        v3_and_below_topics=[{"name": s.name(topic), "partitions": partitions}],
    )


@action(
    ApiKey.ADD_OFFSETS_TO_TXN,
    slot=TRANSACTIONAL,
    group=mostly("g0", "c0", "<empty>"),
    epoch=EPOCH_DELTA,
    version=versions(ApiKey.ADD_OFFSETS_TO_TXN),
)
def add_offsets(s: Session, *, slot: str, group: str, epoch: int, version: int) -> Plain:
    state = producer(s, slot)
    return s.tell(
        "add_offsets_to_txn",
        version,
        again=UNSETTLED,
        transactional_id=s.name(slot),
        producer_id=state.producer_id,
        producer_epoch=state.epoch + epoch,
        group_id=s.name(group),
    )


@action(
    ApiKey.TXN_OFFSET_COMMIT,
    weight=3,
    slot=TRANSACTIONAL,
    group=GROUPS,
    member=mostly(None, "m0", "m1"),
    topic=ANY_TOPIC,
    partition=PARTITIONS,
    offset=mostly(11, 0, -1),
    epoch=EPOCH_DELTA,
    version=versions(ApiKey.TXN_OFFSET_COMMIT),
)
def txn_offset_commit(
    s: Session,
    *,
    slot: str,
    group: str,
    member: str | None,
    topic: str,
    partition: int,
    offset: int,
    epoch: int,
    version: int,
) -> Plain:
    state = producer(s, slot)
    identity: dict[str, Any] = {}
    if member is not None:
        known = s.members[group, member]
        identity = {"member_id": known.member_id, "generation_id": known.generation}
        identity["group_instance_id"] = known.instance_id
    committed = {"partition_index": partition, "committed_offset": offset, "committed_metadata": "of a transaction"}
    return s.tell(
        "txn_offset_commit",
        version,
        again=UNSETTLED,
        transactional_id=s.name(slot),
        group_id=s.name(group),
        producer_id=state.producer_id,
        producer_epoch=state.epoch + epoch,
        topics=[{"name": s.name(topic), "partitions": [committed]}],
        **identity,
    )


@action(
    ApiKey.END_TXN,
    weight=5,
    slot=TRANSACTIONAL,
    committed=st.booleans(),
    epoch=EPOCH_DELTA,
    version=versions(ApiKey.END_TXN),
)
def end_txn(s: Session, *, slot: str, committed: bool, epoch: int, version: int) -> Plain:
    state = producer(s, slot)
    answer = s.ask(
        "end_txn",
        version,
        again=UNSETTLED,
        transactional_id=s.name(slot),
        producer_id=state.producer_id,
        producer_epoch=state.epoch + epoch,
        committed=committed,
    )
    if not isinstance(answer, str) and answer.error_code == ErrorCode.NONE:
        s.settle_transaction(s.name(slot))
        if answer.producer_id >= 0:
            if answer.producer_id != state.producer_id or answer.producer_epoch != state.epoch:
                state.sequences.clear()
            state.producer_id, state.epoch = answer.producer_id, answer.producer_epoch
    return s.plain(answer)


@action(ApiKey.DESCRIBE_TRANSACTIONS, weight=3, slots=mostly(["x0"], ["x0", "x1"], ["nobody"], ["<empty>"]))
def describe_transactions(s: Session, *, slots: list[str]) -> Plain:
    answer = s.ask("describe_transactions", 0, transactional_ids=[s.name(slot) for slot in slots])
    if not isinstance(answer, str):
        for state in answer.transaction_states:
            for topic in state.topics:  # in the order of a hash set in Kafka
                topic.partitions = sorted(topic.partitions)
    return s.plain(answer)


@action(
    ApiKey.LIST_TRANSACTIONS,
    states=mostly([], ["Ongoing"], ["Empty", "CompleteCommit"], ["Nonsense"]),
    duration=mostly(-1, -1, 10_000_000),  # 0 tells what began before this millisecond: a matter of luck
    pattern=mostly(None, None, ".*x0", "(bad"),
    version=versions(ApiKey.LIST_TRANSACTIONS),
)
def list_transactions(s: Session, *, states: list[str], duration: int, pattern: str | None, version: int) -> Plain:
    answer = s.ask(
        "list_transactions",
        version,
        state_filters=states,
        duration_filter=duration,
        transactional_id_pattern=pattern,
    )
    if not isinstance(answer, str):
        own = [t for t in answer.transaction_states if t.transactional_id.startswith(s.prefix)]
        answer.transaction_states = own
    return s.plain(answer)
