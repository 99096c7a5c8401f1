"""Quotas: the windows they are measured in, whose quota applies, and what clients beyond it are told."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.alter_client_quotas import AlterClientQuotasRequest, EntityData, EntryData, OpData
from logqueue.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logqueue.protocol.messages.describe_client_quotas import ComponentData, DescribeClientQuotasRequest
from logqueue.protocol.messages.metadata import MetadataRequest
from logqueue.security.quota import (
    FETCH,
    MUTATION,
    PRODUCE,
    REQUEST,
    InvalidQuota,
    Quotas,
    Rate,
    TokenBucket,
    Windows,
    check_entity,
    check_quota,
)
from logqueue.security.state import SecurityState, dump
from logqueue.storage.file_system import RealFileSystem
from logqueue.storage.security_file import write_security
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, fetch_request, produce_request, values_of

MOST = sys.float_info.max
ELEVEN_SECONDS = Windows(samples=11, window_ms=1000)


def test_a_burst_is_spread_over_the_windows_before_it_is_too_much() -> None:
    rate = Rate(ELEVEN_SECONDS)
    rate.record(10_000, 0)
    assert rate.measure(0) == 1000  # ten whole windows count as if they had been empty
    assert rate.throttle_ms(1000, 0) == 0
    rate.record(5_000, 0)
    assert rate.throttle_ms(1000, 0) == 5000  # 15,000 bytes take 15 seconds at that rate, 10 of them are given


def test_a_pause_is_never_longer_than_a_response_can_say() -> None:
    rate = Rate(ELEVEN_SECONDS)
    rate.record(1e12, 0)
    assert rate.throttle_ms(1e-300, 0) == 2**31 - 1
    bucket = TokenBucket(ELEVEN_SECONDS, limit=1e-9, now_ms=0)
    bucket.take(1e9, limit=1e-9, now_ms=0)
    assert bucket.throttle_ms(limit=1e-9, now_ms=0) == 2**31 - 1


def test_what_is_long_ago_counts_no_more() -> None:
    rate = Rate(ELEVEN_SECONDS)
    rate.record(1_000_000, 0)
    assert rate.measure(12_000) == 0


@given(
    amounts=st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 3000)), min_size=1, max_size=60),
    limit=st.integers(10, 5000),
)
def test_a_client_that_pauses_as_told_stays_within_its_quota(amounts: list[tuple[int, int]], limit: int) -> None:
    rate = Rate(ELEVEN_SECONDS)
    now = 0
    total = 0
    for amount, wait in amounts:
        now += wait
        rate.record(amount, now)
        total += amount
        now += rate.throttle_ms(limit, now)
    # The credit of a new client, one window that is forgotten too early, the last batch, and pauses in whole
    # milliseconds are what may be too much.
    assert total <= limit * (now / 1000 + 12 + len(amounts) / 1000) + 5000 * 2


def test_permits_come_back_at_the_rate_and_are_saved_up_to_the_windows() -> None:
    bucket = TokenBucket(ELEVEN_SECONDS, limit=2, now_ms=0)
    bucket.take(22, limit=2, now_ms=0)
    assert bucket.throttle_ms(limit=2, now_ms=0) == 0
    bucket.take(4, limit=2, now_ms=0)
    assert bucket.throttle_ms(limit=2, now_ms=0) == 2000
    assert bucket.throttle_ms(limit=2, now_ms=2000) == 0


def test_the_most_specific_quota_applies() -> None:
    names = [
        [("user", "u"), ("client-id", "c")],
        [("user", "u"), ("client-id", None)],
        [("user", "u")],
        [("user", None), ("client-id", "c")],
        [("user", None), ("client-id", None)],
        [("user", None)],
        [("client-id", "c")],
        [("client-id", None)],
    ]
    entities: list[list[tuple[str, str | None]]] = [list(name) for name in names]
    for first in range(len(entities)):
        quotas = Quotas({check_entity(e): {PRODUCE: float(n)} for n, e in enumerate(entities) if n >= first})
        meter = quotas.meter(PRODUCE, "u", "c")
        assert meter is not None
        assert meter.limit == first
        assert quotas.meter(FETCH, "u", "c") is None


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [("user", "")],
        [("planet", "x")],
        [("user", "a"), ("user", "b")],
        [("ip", "1.2.3.4"), ("user", "a")],
    ],
)
def test_an_entity_that_cannot_be_is_refused(parts: list[tuple[str, str | None]]) -> None:
    with pytest.raises(InvalidQuota):
        check_entity(parts)


@pytest.mark.parametrize(
    ("parts", "key", "value"),
    [
        ([("user", "a")], "nonsense", 1.0),
        ([("user", "a")], "connection_creation_rate", 1.0),
        ([("ip", "1.2.3.4")], PRODUCE, 1.0),
        ([("user", "a")], PRODUCE, 0.0),
        ([("user", "a")], PRODUCE, -1.0),
        ([("user", "a")], PRODUCE, 1.5),
        ([("user", "a")], PRODUCE, float("nan")),
        ([("user", "a")], PRODUCE, float("inf")),
        ([("user", "a")], PRODUCE, 2.0**64),
        ([("user", "a")], FETCH, MOST),
        ([("ip", "1.2.3.4")], "connection_creation_rate", 2.0**31),
    ],
)
def test_a_quota_that_cannot_be_is_refused(parts: list[tuple[str, str | None]], key: str, value: float) -> None:
    with pytest.raises(InvalidQuota):
        check_quota(check_entity(parts), key, value)


@pytest.mark.parametrize(
    ("entity", "key", "value"),
    [("user", PRODUCE, 2.0**63), ("user", MUTATION, MOST), ("ip", "connection_creation_rate", 2.0**31 - 1)],
)
def test_a_quota_may_be_as_large_as_its_type(entity: str, key: str, value: float) -> None:
    check_quota(check_entity([(entity, "1.2.3.4")]), key, value)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    # Two short windows: what is beyond them is throttled at once, and for a short time.
    with EmbeddedBroker(fsync=False, quota_window_num=2) as running:
        yield running


def set_quota(wire: Wire, key: str, value: float | None, *, validate_only: bool = False, **entity: str | None) -> Any:
    change = OpData(key=key, value=value or 0.0, remove=value is None)
    parts = [EntityData(entity_type=kind.replace("_", "-"), entity_name=name) for kind, name in entity.items()]
    request = AlterClientQuotasRequest(entries=[EntryData(entity=parts, ops=[change])], validate_only=validate_only)
    return wire.call(1, request).entries[0]


def quotas_of(wire: Wire, *components: ComponentData, strict: bool = False) -> list[tuple[Any, Any]]:
    answer = wire.call(1, DescribeClientQuotasRequest(components=list(components), strict=strict))
    assert answer.error_code == 0
    return [
        ({e.entity_type: e.entity_name for e in entry.entity}, {v.key: v.value for v in entry.values})
        for entry in answer.entries
    ]


def test_a_producer_beyond_its_rate_is_told_and_muted_and_goes_on_when_it_is_over(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        assert set_quota(wire, PRODUCE, 100_000, client_id="wire").error_code == 0
        sent = time.monotonic()  # before the request: afterwards a part of the time may be over
        answer = wire.call(9, produce_request("t", batch(b"x" * 130_000), acks=1))
        assert answer.responses[0].partition_responses[0].error_code == 0
        assert 200 < answer.throttle_time_ms < 500
        wire.call(9, MetadataRequest(topics=[]))
        assert time.monotonic() - sent > answer.throttle_time_ms / 1000 - 0.05
        with Wire(broker.bootstrap) as other:
            other.call(9, MetadataRequest(topics=[]))  # another connection is not muted


def test_a_fetch_beyond_the_rate_is_empty_and_the_next_one_has_the_records(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        wire.call(9, produce_request("t", batch(b"x" * 60_000), acks=1))
        set_quota(wire, FETCH, 100_000, client_id=None)
        first = wire.call(12, fetch_request("t", 0))
        assert (first.throttle_time_ms, len(values_of(first))) == (0, 1)
        for _ in range(50):  # the second, where the machine does not stand still between them
            beyond = wire.call(12, fetch_request("t", 0))
            if beyond.throttle_time_ms:
                break
        assert beyond.throttle_time_ms > 0
        assert beyond.responses == []
        for _ in range(50):  # bounded; each answer says how long it held the connection back
            answer = wire.call(12, fetch_request("t", 0))
            if answer.responses:
                return
        raise AssertionError("the quota never lets go")


def test_what_is_held_back_for_another_quota_counts_for_none(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        wire.call(9, produce_request("t", batch(b"x" * 60_000), acks=1))
        set_quota(wire, FETCH, 100_000, client_id="wire")
        set_quota(wire, REQUEST, 0.001, client_id="wire")
    for _ in range(10):
        with Wire(broker.bootstrap) as wire:  # a new one each time: those before are muted
            assert wire.call(12, fetch_request("t", 0)).responses == []
    with Wire(broker.bootstrap) as wire:
        set_quota(wire, REQUEST, None, client_id="wire")
    with Wire(broker.bootstrap) as wire:
        answer = wire.call(12, fetch_request("t", 0))
        assert (answer.throttle_time_ms, len(values_of(answer))) == (0, 1)


def test_a_quota_of_more_than_there_is_holds_nobody_back(tmp_path: Path) -> None:
    entity = check_entity([("client-id", None)])
    state = SecurityState(decoy_key=b"d" * 32, quotas={entity: {FETCH: MOST}})  # stored when that was not refused
    write_security(RealFileSystem(), tmp_path, dump(state))
    with EmbeddedBroker(tmp_path, fsync=False) as running, Wire(running.bootstrap) as wire:
        create(wire, "t")
        wire.call(9, produce_request("t", batch(b"x"), acks=1))
        assert values_of(wire.call(12, fetch_request("t", 0))) == [b"x"]


def test_a_fetch_session_goes_on_behind_an_answer_that_was_held_back(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        opened = wire.call(12, fetch_request("t", 0, session_epoch=0))
        assert opened.session_id
        set_quota(wire, FETCH, 100_000, client_id=None)
        wire.call(9, produce_request("t", batch(b"x" * 60_000), acks=1))
        answers = []
        for epoch in range(1, 100):  # bounded; each answer says how long it held the connection back
            request = fetch_request("t", 0, session_id=opened.session_id, session_epoch=epoch)
            request.topics = []
            answers.append(wire.call(12, request))
            if any(answer.throttle_time_ms for answer in answers) and answers[-1].responses:
                break
        assert {answer.session_id for answer in answers} == {opened.session_id}
        assert any(answer.throttle_time_ms and not answer.responses for answer in answers)
        assert len(values_of(answers[-1])) == 1


def test_topics_beyond_the_mutation_rate_are_refused_by_new_versions_and_throttled_by_old_ones(
    broker: EmbeddedBroker,
) -> None:
    with EmbeddedBroker(fsync=False, controller_quota_window_num=1) as running, Wire(running.bootstrap) as wire:
        set_quota(wire, MUTATION, 4, user="ANONYMOUS")

        def make(version: int, *names: str) -> Any:
            topics = [CreatableTopic(name=name, num_partitions=5, replication_factor=1) for name in names]
            return wire.call(version, CreateTopicsRequest(topics=topics, timeout_ms=1000))

        answer = make(7, "a", "b")
        assert [t.error_code for t in answer.topics] == [0, ErrorCode.THROTTLING_QUOTA_EXCEEDED]
        assert 150 < answer.throttle_time_ms <= 250  # one permit too many was taken, four come back in a second
        answer = make(5, "c", "d")
        assert [t.error_code for t in answer.topics] == [0, 0]
        assert answer.throttle_time_ms > 0


def test_quotas_are_described_by_filters_and_outlive_a_restart(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        set_quota(wire, PRODUCE, 1000, user="u")
        set_quota(wire, FETCH, 2000, user="u", client_id="c")
        set_quota(wire, MUTATION, 3, user=None)
        set_quota(wire, "connection_creation_rate", 50, ip="10.9.8.7")
        set_quota(wire, PRODUCE, 5, validate_only=True, user="nobody")
    broker.restart()
    with Wire(broker.bootstrap) as wire:
        any_user = ComponentData(entity_type="user", match_type=2, match=None)
        assert len(quotas_of(wire)) == 4
        assert len(quotas_of(wire, any_user)) == 3
        assert quotas_of(wire, ComponentData(entity_type="user", match_type=0, match="u"), strict=True) == [
            ({"user": "u"}, {PRODUCE: 1000.0})
        ]
        assert quotas_of(wire, ComponentData(entity_type="user", match_type=1, match=None)) == [
            ({"user": None}, {MUTATION: 3.0})
        ]
        set_quota(wire, PRODUCE, None, user="u")
        assert len(quotas_of(wire, any_user)) == 2


def test_an_address_makes_no_more_connections_than_its_rate(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        set_quota(wire, "connection_creation_rate", 5, ip="127.0.0.1")
        taken = 0
        for _ in range(500):  # the eleventh at the latest, where the machine does not stand still between them
            with Wire(broker.bootstrap) as other:
                try:
                    other.call(9, MetadataRequest(topics=[]))
                except (EOFError, ConnectionError):
                    break
                taken += 1
        assert 1 <= taken < 500
        set_quota(wire, "connection_creation_rate", None, ip="127.0.0.1")
        with Wire(broker.bootstrap) as other:
            other.call(9, MetadataRequest(topics=[]))


def test_processing_time_is_a_quota_too(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        set_quota(wire, "request_percentage", 0.001, client_id="wire")
        answers = [wire.call(9, MetadataRequest(topics=None)).throttle_time_ms for _ in range(3)]
        assert max(answers) > 0
        assert max(answers) <= 1000  # never longer than one window
