"""The pure parts of control: notes, pace, letters of others, what may be done in which state, what is swept."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.control.decisions import ALLOWED, Answer, Verb, decide
from logqueue_consumers.control.notes import (
    MAX_DETAILS_BYTES,
    MAX_LOG_BYTES,
    MAX_LOG_LINES,
    read_details,
    with_header,
    with_line,
    with_progress,
)
from logqueue_consumers.control.pace import BATCH, Pace, Tally
from logqueue_consumers.control.sweep import GRACE_MS, MOVED_MS, UNKNOWN_MS, Known, stale_keys
from logqueue_consumers.letters.dead_letters import read_position
from logqueue_consumers.letters.foreign import read_foreign_letter
from logqueue_consumers.letters.letter import Deeds, LetterFilter, read_letter, round_of
from logqueue_consumers.view.job import TERMINAL_STATES
from logqueue_consumers.view.job import State as ViewState
from logqueue_schemas.job_status import JobStatus, State

from logqueue.jobs.control import cancel_command, discard_command, fold, retry_command, run_now_command
from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.headers import DETAILS


@given(st.lists(st.text(max_size=3_000), max_size=150))
def test_log_lines_stay_within_their_bounds_and_the_newest_are_kept(lines: list[str]) -> None:
    details: dict[str, Any] | None = None
    for number, line in enumerate(lines):
        details = with_line(details, line, attempt=1, at_ms=number)
    kept = (details or {}).get("log", [])
    assert len(kept) <= MAX_LOG_LINES
    assert sum(len(entry["line"].encode("utf-8", "replace")) for entry in kept) <= MAX_LOG_BYTES
    assert len(kept) + (details or {}).get("log_dropped", 0) == len(lines)
    assert [entry["at"] for entry in kept] == list(range(len(lines) - len(kept), len(lines)))


def test_progress_replaces_the_one_before_and_leaves_the_rest() -> None:
    first = with_line(None, "x", attempt=1, at_ms=1)
    second = with_progress(
        with_progress(first, done=1, total=None, message=None, at_ms=2), done=2, total=4, message="m", at_ms=3
    )
    assert second["log"] == first["log"] and "progress" not in first
    assert second["progress"] == {"done": 2, "total": 4, "message": "m", "at": 3}
    with pytest.raises(ValueError, match="finite"):
        with_progress(None, done=float("nan"), total=None, message=None, at_ms=0)
    with pytest.raises(TypeError, match="done and total, both numbers, and a message: 'half' is no number"):
        with_progress(None, done=1, total="half", message=None, at_ms=0)  # type: ignore[arg-type]


def test_details_travel_in_one_header_unless_they_are_too_large() -> None:
    headers = with_header([("a", b"1"), (DETAILS, b"old")], {"x": 1})
    assert headers == [("a", b"1"), (DETAILS, b'{"x":1}')]
    assert read_details(headers) == {"x": 1}
    assert with_header([], {"x": "y" * MAX_DETAILS_BYTES}) == []
    assert read_details([(DETAILS, b"[1]")]) is None and read_details([(DETAILS, b"{")]) is None


@given(st.floats(0.5, 5_000), st.lists(st.floats(0, 2), min_size=1, max_size=60))
def test_a_paced_replay_never_sends_more_than_its_rate(rate: float, waits: list[float]) -> None:
    pace, sent, elapsed_s = Pace(rate=rate), 0, 0.0
    for wait_s in waits:
        elapsed_s += wait_s
        due = pace.due(sent, elapsed_s)
        assert 0 <= due <= BATCH
        sent += due
        assert sent <= 1 + rate * elapsed_s


@pytest.mark.parametrize(
    "wrong", [{"rate": 0}, {"rate": -1}, {"rate": 1e9}, {"max_failed_share": 2}, {"min_sample": 0}]
)
def test_a_pace_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        Pace(**wrong)


def news(job_id: str, state: State, *, replay: int = 1, shadow: bool = False) -> JobStatus:
    return JobStatus(
        id=job_id, queue="q", tenant="t", group="g", state=state, at=0, topic="t", partition=0, offset=0,
        replay=replay, shadow=shadow,
    )  # fmt: skip


def test_a_failure_counts_at_once_and_a_later_success_takes_it_back() -> None:
    tally = Tally(Pace(max_failed_share=0.5, min_sample=2))
    for job_id in "abc":
        tally.send(job_id, 1)
    tally.note(news("a", State.RETRYING))
    assert (tally.failed, tally.verdict()) == (1, None), "too few to judge"
    tally.note(news("b", State.DEAD))
    assert tally.verdict() is not None
    tally.note(news("a", State.SUCCEEDED))
    tally.note(news("a", State.DEAD, shadow=True))
    tally.note(news("c", State.DEAD, replay=0))
    tally.note(news("stranger", State.DEAD))
    assert (tally.failed, tally.succeeded, tally.verdict()) == (1, 1, None)


@pytest.mark.parametrize("text", ["a", "1:", ":1", "1:2:3", "-1:2", "\u00b2:3", "3:\u00b2", "1:" + "9" * 5_000])
def test_what_is_no_position_of_a_letter_may_be_an_id(text: str) -> None:
    assert read_position(text) is None
    assert read_position("2:17") == (2, 17)


def test_connect_streams_and_share_groups_say_in_text_where_a_record_came_from() -> None:
    connect = read_foreign_letter(
        [
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"2"),
            ("__connect.errors.offset", b"9"),
            ("__connect.errors.connector.name", b"sink"),
            ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            ("__connect.errors.exception.message", None),  # type: ignore[list-item]  # Connect writes nulls
        ]
    )
    assert connect is not None
    assert (connect.system, connect.topic, connect.partition, connect.offset) == ("connect", "orders", 2, 9)
    assert (connect.group, connect.error_type, connect.error_message) == ("sink", "DataException", None)
    streams = read_foreign_letter([("__streams.errors.topic", b"t"), ("__streams.errors.exception", b"a.B")])
    assert streams is not None and (streams.system, streams.error_type) == ("streams", "B")
    share = read_foreign_letter(
        [
            ("__dlq.errors.topic", b"t"),
            ("__dlq.errors.partition", b"x"),
            ("__dlq.errors.offset", b"5"),
            ("__dlq.errors.group", b"g"),
            ("__dlq.errors.delivery.count", b"4"),
            ("__dlq.errors.message", b"rejected"),
        ]
    )
    assert share is not None
    assert (share.partition, share.offset, share.group, share.attempts) == (None, 5, "g", 4)
    assert read_foreign_letter([("ce_id", b"x")]) is None


@given(
    st.lists(st.tuples(st.sampled_from(["original-partition", "original-offset", "exception-message"]), st.binary()))
)
def test_no_bytes_of_a_foreign_header_break_reading(pairs: list[tuple[str, bytes]]) -> None:
    headers = [("kafka_dlt-original-topic", b"t"), *((f"kafka_dlt-{name}", value) for name, value in pairs)]
    found = read_foreign_letter(headers)
    assert found is not None and found.topic == "t"


def record(headers: list[tuple[str, bytes]], *, offset: int = 0) -> Any:
    return SimpleNamespace(
        topic="dlq.q.g", partition=0, offset=offset, timestamp=10, key=b"t", value=b"{}", headers=headers
    )


def test_a_letter_is_closed_by_its_own_event_by_a_retry_of_its_job_and_by_a_discard() -> None:
    deeds = Deeds()
    plain = [("ce_id", b"j"), ("job-replay", b"1")]

    def status() -> str:
        return read_letter(record(plain), queue="q", group="g", deeds=deeds).status

    assert status() == "open"
    deeds.apply(*retry_command("j", replay=1, by="a", at_ms=0).record())
    assert status() == "open", "that retry is the run which died"
    deeds.apply(*discard_command("j", replay=1, by="a", at_ms=0).record())
    assert status() == "discarded"
    deeds.apply(*retry_command("j", replay=2, by="a", at_ms=0).record())
    assert status() == "replayed"
    deeds = Deeds()
    deeds.apply(b"dead-letter/dlq.q.g/0/0", json.dumps({"event": "dead-letter.replayed"}).encode())
    assert status() == "replayed"
    deeds.apply(b"dead-letter/dlq.q.g/0/0", None)
    assert status() == "open"


def test_letters_are_chosen_by_time_and_by_either_kind_of_name() -> None:
    letters = [
        read_letter(record([("ce_id", b"%d" % n)], offset=n), queue="q", group="g", deeds=Deeds()) for n in range(3)
    ]
    assert [LetterFilter(since_ms=10, until_ms=11).matches(letter) for letter in letters] == [True] * 3
    assert not LetterFilter(until_ms=10).matches(letters[0]) and not LetterFilter(since_ms=11).matches(letters[0])
    named = LetterFilter(ids=frozenset({"0"}), positions=frozenset({(0, 2)}))
    assert [named.matches(letter) for letter in letters] == [True, False, True]


def test_a_foreign_letter_goes_round_under_the_position_of_its_first_record() -> None:
    source = record([
        ("kafka_dlt-original-topic", b"orders"),
        ("kafka_dlt-original-partition", struct.pack(">i", 1)),
        ("kafka_dlt-original-offset", struct.pack(">q", 2)),
    ])  # fmt: skip
    letter = read_letter(source, queue="q", group="g", deeds=Deeds())
    job = round_of(letter, source, replay=1, type_="mail")
    assert (job.id, job.type, job.replay, job.group) == ("orders-1-2", "mail", 1, "g")
    assert ("ce_type", b"mail") in job.headers
    assert (job.origin.topic, job.origin.partition, job.origin.offset) == ("orders", 1, 2)


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("state", ViewState)
def test_every_verb_says_of_every_state_whether_it_applies(verb: Verb, state: ViewState) -> None:
    answer = decide(verb, state)
    assert (answer is Answer.DO) == (state in ALLOWED[verb])
    if verb is Verb.CANCEL and state in TERMINAL_STATES - {ViewState.CANCELLED}:
        assert answer is Answer.FORBIDDEN
    if verb is Verb.RETRY and state not in TERMINAL_STATES:
        assert answer is Answer.FORBIDDEN


def test_commands_are_swept_when_their_job_has_ended_or_was_never_heard_of() -> None:
    now = MOVED_MS + 10 * UNKNOWN_MS
    old, ancient = now - GRACE_MS - 1, now - UNKNOWN_MS - 1
    state = fold(
        [
            cancel_command("ended", replay=0, by="a", at_ms=old).record(),
            cancel_command("young", replay=0, by="a", at_ms=now - 1).record(),
            cancel_command("waits", replay=0, by="a", at_ms=ancient).record(),
            cancel_command("older-run", replay=1, by="a", at_ms=old).record(),
            cancel_command("unknown", replay=0, by="a", at_ms=old).record(),
            cancel_command("never", replay=0, by="a", at_ms=ancient).record(),
            cancel_command("moved", replay=0, by="a", at_ms=ancient, is_moved=True).record(),
            cancel_command("moved-long", replay=0, by="a", at_ms=now - MOVED_MS - 1, is_moved=True).record(),
            run_now_command("went-on", replay=0, by="a", at_ms=old).record(),
        ]
    )
    known = {
        "ended": Known(0, True),
        "young": Known(0, True),
        "waits": Known(0, False),
        "older-run": Known(0, True),
        "moved": Known(1, True),
        "moved-long": Known(1, True),
        "went-on": Known(1, False),
    }
    swept = ["cancel/ended", "cancel/never", "cancel/moved-long", "run-now/went-on"]
    assert stale_keys(state, now_ms=now, look=known.get) == swept


@pytest.mark.parametrize(
    ("value", "offset"),
    [(struct.pack(">q", 77), 77), (struct.pack(">i", 77), 77), (b"77", 77), (b"1234", 1234), (b"-1", None), (b"", None),
     (struct.pack(">q", -1), None), (b"123", 123), (b"abc", None)],
)  # fmt: skip
def test_numbers_of_spring_are_read_as_it_writes_them_and_as_others_do(value: bytes, offset: int | None) -> None:
    found = read_foreign_letter([("kafka_dlt-original-topic", b"t"), ("kafka_dlt-original-offset", value)])
    assert found is not None and found.offset == offset
