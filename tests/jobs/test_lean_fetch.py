"""Fetches packed a partition at a time say exactly what aiokafka's own codec says."""

from __future__ import annotations

import struct
import sys
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol import fetch
from aiokafka.protocol.fetch import FetchRequest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.fetch_session import FetchSession
from logqueue.jobs.lean_fetch import IsKnown, LeanRequest, read_answer

VERSIONS = (9, 10, 11)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
topics = st.text("abcdefg.-éß", min_size=1, max_size=30)
asked = st.lists(st.tuples(topics, st.lists(st.tuples(int32, int64, int32), max_size=5)), max_size=4)
aborted = st.none() | st.lists(st.tuples(int64, int64), max_size=3)
given_partition = st.tuples(int32, st.integers(-1, 120), int64, int64, int64, aborted, int32, st.binary(max_size=40))
answered = st.lists(st.tuples(topics, st.lists(given_partition, max_size=5)), max_size=4)


def nothing_known(topic: str, partition: int, watermark: int, stable: int) -> bool:
    return False


def lean(request: FetchRequest, version: int, session: FetchSession | None = None) -> Any:
    """The request as a connection of that version gets it."""
    return LeanRequest(request, session or FetchSession(), None, nothing_known).prepare({1: (0, version)})


def read(frame: bytes, version: int, is_known: IsKnown = nothing_known) -> Any:
    """What an answer to a first fetch says."""
    session = FetchSession()
    return read_answer(memoryview(frame), version, session, session.ask([], None), is_known)


@given(st.sampled_from(VERSIONS), asked, int32, st.integers(0, 1), topics)
def test_a_request_is_the_same_bytes(version: int, wanted: Any, number: int, isolation: int, rack: str) -> None:
    request = FetchRequest(number, 1, 1024, isolation, wanted, rack_id=rack)
    theirs, ours = request.prepare({1: (0, version)}), lean(request, version)
    expected = theirs.build_request_header(7, "logqueue").encode() + theirs.encode()
    # But for the epoch, by which the first fetch asks for a session: after the head and six numbers.
    place = 10 + len("logqueue") + struct.calcsize(">iiiibi")
    expected = expected[:place] + b"\0\0\0\0" + expected[place + 4 :]
    assert ours.build_request_header(7, "logqueue").encode() + ours.encode() == expected


@given(st.sampled_from(VERSIONS), answered)
def test_an_answer_is_read_the_same(version: int, found: Any) -> None:
    response_type = getattr(fetch, f"FetchResponse_v{version}")
    if version < 11:  # no preferred replica
        found = [(topic, [(*part[:6], part[7]) for part in parts]) for topic, parts in found]
    body = response_type(0, 0, 0, found).encode()
    frame = (77).to_bytes(4, "big") + body
    answer = read(frame, version)
    assert version == answer.API_VERSION
    assert answer.topics == response_type.decode(body).topics
    prepared = lean(FetchRequest(1, 1, 1, 1, []), version)
    assert prepared.parse_response_header(BytesIO(frame)).correlation_id == 77


def test_a_broker_without_these_versions_is_asked_in_aiokafkas_way() -> None:
    request = FetchRequest(1, 1, 1, 1, [("t", [(0, 5, 100)])])
    assert isinstance(lean(request, 8), fetch.FetchRequest_v8)


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    body = fetch.FetchResponse_v11(0, 0, 0, [("t", [(0, 0, 1, 1, 0, [], -1, b"abc")])]).encode()
    with pytest.raises(struct.error):
        read(b"\0\0\0\1" + body[:-8], 11)


def test_a_partition_is_left_out_only_where_there_is_nothing_new_of_it() -> None:
    same, more, failed, moved = (
        (number, error, end, end, 0, [], -1, records)
        for number, error, end, records in ((0, 0, 5, b""), (1, 0, 5, b"abc"), (2, 3, 5, b""), (3, 0, 6, b""))
    )
    body = fetch.FetchResponse_v11(0, 0, 0, [("t", [same, more, failed, moved])]).encode()
    answer = read(b"\0\0\0\1" + body, 11, lambda topic, number, end, stable: end == 5)
    assert answer.topics == [("t", [more, failed, moved])]


def test_a_fetch_leaves_nothing_to_the_cycle_collector() -> None:
    prepared = lean(FetchRequest(1, 1, 1, 1, []), 11)
    held = sys.getrefcount(prepared)
    assert prepared.RESPONSE_TYPE is prepared
    prepared.build_request_header(7, "logqueue")
    assert sys.getrefcount(prepared) == held  # by nothing that this left behind, least of all by itself
