"""Records: produce, fetch, list offsets, delete, epochs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from logqueue.records.batch import parse_header
from tests.fidelity.actions.batches import BATCHES, batch
from tests.fidelity.actions.slots import ANY_TOPIC, PARTITIONS, TOPICS
from tests.fidelity.messages import CLOCK_SINCE_MS, FIRST_TIME_MS, NO_UUID, Plain
from tests.fidelity.session import CLOSED, UNSETTLED, Producer, Session
from tests.fidelity.steps import action, mostly, versions

FIRST_VERSION_BY_ID = 13
PRODUCERS = mostly("p0", "p1", "x0", "x1")


@action(
    ApiKey.PRODUCE,
    weight=8,
    topic=ANY_TOPIC,
    partition=PARTITIONS,
    acks=mostly(-1, 1, 0, 3),
    kind=BATCHES,
    version=versions(ApiKey.PRODUCE),
)
def produce(s: Session, *, topic: str, partition: int, acks: int, kind: str, version: int) -> Plain:
    records = batch(kind, time_ms=FIRST_TIME_MS + 1000 * s.step)
    return _produce(s, topic, partition, records, version=version, acks=acks)


@action(
    ApiKey.PRODUCE,
    weight=6,
    producer=PRODUCERS,
    topic=TOPICS,
    partition=mostly(0, 1),
    kind=mostly("three", "one", "gzip", "two"),
    sequence=mostly("next", "repeat", "gap", "zero", "negative"),
    epoch=mostly(0, 0, 0, 1, -1),
    transactional=mostly(None, True, False),
    acks=mostly(-1, 1),
    version=versions(ApiKey.PRODUCE),
)
def produce_in_sequence(
    s: Session,
    *,
    producer: str,
    topic: str,
    partition: int,
    kind: str,
    sequence: str,
    epoch: int,
    transactional: bool | None,
    acks: int,
    version: int,
) -> Plain:
    state = s.producers.get(producer) or Producer(producer_id=987_654_321, epoch=0)
    following = state.sequences.get((topic, partition), 0)
    bases = {"next": following, "repeat": max(0, following - 3), "gap": following + 5, "zero": 0, "negative": -1}
    base = bases[sequence]
    is_transactional = producer.startswith("x") if transactional is None else transactional
    records = batch(
        kind,
        time_ms=FIRST_TIME_MS + 1000 * s.step,
        producer_id=state.producer_id,
        producer_epoch=max(0, state.epoch + epoch),
        base_sequence=base,
        transactional=is_transactional,
    )
    transactional_id = s.name(producer) if is_transactional else None
    answer = _produce(s, topic, partition, records, version=version, acks=acks, transactional_id=transactional_id)
    if isinstance(answer, dict) and _error(answer) == ErrorCode.NONE and sequence != "repeat":
        state.sequences[topic, partition] = base + parse_header(records).record_count
    return answer


def _error(answer: Any) -> int:
    code: int = answer["responses"][0]["partition_responses"][0]["error_code"]
    return code


def _produce(
    s: Session,
    topic: str,
    partition: int,
    records: bytes,
    *,
    version: int,
    acks: int,
    transactional_id: str | None = None,
) -> Plain:
    data = [{"index": partition, "records": memoryview(records)}]
    fields: dict[str, Any] = {
        "transactional_id": transactional_id,
        "acks": acks,
        "timeout_ms": 10_000,
        "topic_data": [_named(s, topic, version, "name") | {"partition_data": data}],
    }
    if acks == 0:
        s.send_only("produce", version, **fields)
        # Nothing answers, but after an error the log ends the connection.
        return CLOSED if s.ask("metadata", 9, topics=[]) == CLOSED else "<sent>"
    return s.tell("produce", version, again=UNSETTLED, **fields)


def _named(s: Session, topic: str, version: int, field: str) -> dict[str, Any]:
    """The topic as a version names it: by name, later by id."""
    if version < FIRST_VERSION_BY_ID:
        return {field: s.name(topic)}
    return {"topic_id": s.topic_ids.get(s.name(topic), NO_UUID if topic == "<empty>" else b"unknown topic id")}


@action(
    ApiKey.FETCH,
    weight=8,
    topic=mostly("t0", "t1", "t2", "t3", "missing"),
    partition=PARTITIONS,
    at=mostly("start", "middle", "end", "past", "negative", "early"),
    committed=st.booleans(),
    max_bytes=mostly(1_000_000, 1, 250),
    epoch=mostly(-1, 0, 1),
    version=versions(ApiKey.FETCH),
)
def fetch(
    s: Session, *, topic: str, partition: int, at: str, committed: bool, max_bytes: int, epoch: int, version: int
) -> Plain:
    start, end = (_listed(s, topic, partition, timestamp) for timestamp in (-2, -1))
    offset = {"start": start, "middle": (start + end) // 2, "end": end, "past": end + 1, "negative": -1, "early": 0}[at]
    wanted = {"partition": partition, "fetch_offset": offset, "current_leader_epoch": epoch}
    wanted["partition_max_bytes"] = max_bytes
    return s.tell(
        "fetch",
        version,
        max_wait_ms=0,
        min_bytes=0,
        isolation_level=int(committed),
        session_id=0,
        session_epoch=-1,
        topics=[_named(s, topic, version, "topic") | {"partitions": [wanted]}],
    )


EVERY_SECOND = tuple((topic, partition) for topic in ("t0", "t1", "missing") for partition in (0, 1))


@action(
    ApiKey.FETCH,
    weight=8,
    slot=mostly("f0", "f1"),
    wanted=st.lists(st.sampled_from(EVERY_SECOND), max_size=3, unique=True),
    forgotten=st.lists(st.sampled_from(EVERY_SECOND), max_size=1),
    at=mostly("end", "start", "middle", "past"),
    epoch=mostly("next", "next", "next", "first", "final", "late"),
    committed=mostly(False, True),
    by_id=st.booleans(),
)
def fetch_in_session(
    s: Session,
    *,
    slot: str,
    wanted: list[tuple[str, int]],
    forgotten: list[tuple[str, int]],
    at: str,
    epoch: str,
    committed: bool,
    by_id: bool,
) -> Plain:
    version = 17 if by_id else 12
    number, following = s.fetches.get(slot, (0, 0))
    asked_epoch = {"next": following, "first": 0, "final": -1, "late": following + 1}[epoch]
    topics: dict[str, dict[str, Any]] = {}  # clients name each once
    for topic, partition in wanted:
        start, end = (_listed(s, topic, partition, timestamp) for timestamp in (-2, -1))
        offset = {"start": start, "middle": (start + end) // 2, "end": end, "past": end + 1}[at]
        part = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1_000_000}
        named = topics.setdefault(topic, _named(s, topic, version, "topic") | {"partitions": []})
        named["partitions"].append(part)
    answer = s.ask(
        "fetch",
        version,
        max_wait_ms=0,
        min_bytes=0,
        isolation_level=int(committed),
        session_id=number,
        session_epoch=asked_epoch,
        topics=list(topics.values()),
        forgotten_topics_data=[
            _named(s, topic, version, "topic") | {"partitions": [partition]} for topic, partition in forgotten
        ],
    )
    if not isinstance(answer, str) and not answer.error_code:
        s.fetches[slot] = (answer.session_id, asked_epoch + 1) if answer.session_id else (0, 0)
    return s.plain(answer)


def _listed(s: Session, topic: str, partition: int, timestamp: int) -> int:
    wanted = [{"partition_index": partition, "timestamp": timestamp}]
    answer = s.ask("list_offsets", 5, replica_id=-1, topics=[{"name": s.name(topic), "partitions": wanted}])
    return 0 if isinstance(answer, str) else max(0, answer.topics[0].partitions[0].offset)


@action(
    ApiKey.LIST_OFFSETS,
    weight=3,
    topic=mostly("t0", "t1", "t2", "missing"),
    partition=PARTITIONS,
    timestamp=mostly(-1, -2, -3, -4, -5, -6, -7, 0, "first", "step", "now"),
    committed=st.booleans(),
    epoch=mostly(-1, 0, 1),
    version=versions(ApiKey.LIST_OFFSETS),
)
def list_offsets(
    s: Session, *, topic: str, partition: int, timestamp: int | str, committed: bool, epoch: int, version: int
) -> Plain:
    times = {"first": FIRST_TIME_MS, "step": FIRST_TIME_MS + 500 * s.step, "now": 4_000_000_000_000}
    at = times[timestamp] if isinstance(timestamp, str) else timestamp
    wanted = [{"partition_index": partition, "timestamp": at, "current_leader_epoch": epoch}]
    topics = [{"name": s.name(topic), "partitions": wanted}]
    answer = s.ask("list_offsets", version, replica_id=-1, isolation_level=int(committed), topics=topics)
    if not isinstance(answer, str):
        for part in (part for each in answer.topics for part in each.partitions):
            part.timestamp = min(part.timestamp, CLOCK_SINCE_MS)  # a marker has the time of its broker
    return s.plain(answer)


@action(
    ApiKey.DELETE_RECORDS,
    topic=mostly("t0", "t1", "t2", "missing"),
    partition=PARTITIONS,
    to=mostly("middle", "end", "past", "start", -1, -2),
    version=versions(ApiKey.DELETE_RECORDS),
)
def delete_records(s: Session, *, topic: str, partition: int, to: str | int, version: int) -> Plain:
    start, end = (_listed(s, topic, partition, timestamp) for timestamp in (-2, -1))
    places = {"start": start, "middle": (start + end) // 2, "end": end, "past": end + 1}
    offset = places[to] if isinstance(to, str) else to
    topics = [{"name": s.name(topic), "partitions": [{"partition_index": partition, "offset": offset}]}]
    return s.tell("delete_records", version, topics=topics, timeout_ms=10_000)


@action(
    ApiKey.OFFSET_FOR_LEADER_EPOCH,
    topic=mostly("t0", "t2", "missing"),
    partition=PARTITIONS,
    current=mostly(-1, 0, 1),
    epoch=mostly(0, -1, 1, 5),
    version=versions(ApiKey.OFFSET_FOR_LEADER_EPOCH),
)
def offset_for_leader_epoch(s: Session, *, topic: str, partition: int, current: int, epoch: int, version: int) -> Plain:
    wanted = [{"partition": partition, "current_leader_epoch": current, "leader_epoch": epoch}]
    topics = [{"topic": s.name(topic), "partitions": wanted}]
    return s.tell("offset_for_leader_epoch", version, replica_id=-1, topics=topics)


@action(
    ApiKey.DESCRIBE_PRODUCERS,
    topic=mostly("t0", "t2", "missing"),
    partition=PARTITIONS,
)
def describe_producers(s: Session, *, topic: str, partition: int) -> Plain:
    return s.tell("describe_producers", 0, topics=[{"name": s.name(topic), "partition_indexes": [partition]}])
