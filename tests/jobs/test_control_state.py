"""Operator commands: the fold is the same however the topic was compacted, and nothing in it stops a worker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs import control
from logqueue.jobs.control import (
    CANCEL,
    ControlState,
    cancel_command,
    discard_command,
    fold,
    retry_command,
    run_now_command,
    withdraw,
)

IDS = st.sampled_from(["a", "b", "a/b", "ü"])
KEYS = st.one_of(
    IDS.map("cancel/{}".format),
    IDS.map("run-now/{}".format),
    st.sampled_from(["pause/queue/q", "pause/tenant/q/t", "kill/x", "limit/queue/q", "weight/q/t"]),
    st.sampled_from(["definition/app/t", "retry/a", "dead-letter/dlq.q.g/0/1", "", "cancel"]),
).map(str.encode)
VALUES = st.none() | st.binary(max_size=5) | st.builds(
    lambda replay, at: msgspec.json.encode({"replay": replay, "by": "op", "at": at}),
    st.integers(0, 3) | st.just("x"),
    st.integers(0, 9),
)  # fmt: skip
RECORDS = st.lists(st.tuples(KEYS, VALUES), max_size=30)


def seen(state: ControlState) -> Any:
    return (state.cancels, state.run_nows, state.standing)


@given(RECORDS)
def test_compaction_changes_nothing(records: list[tuple[bytes, bytes | None]]) -> None:
    last = {key: place for place, (key, _) in enumerate(records)}
    compacted = [record for place, record in enumerate(records) if last[record[0]] == place]
    assert seen(fold(records)) == seen(fold(compacted))


@given(RECORDS)
def test_reading_again_changes_nothing(records: list[tuple[bytes, bytes | None]]) -> None:
    assert seen(fold(records)) == seen(fold([*records, *records]))


@given(RECORDS)
def test_changes_tell_what_holds(records: list[tuple[bytes, bytes | None]]) -> None:
    state, held = ControlState(), set()
    for key, value in records:
        change = state.apply(key, value)
        if change is not None:
            (held.add if change.is_set else held.discard)(change.kind + change.subject)
    kept = {CANCEL + id_ for id_ in state.cancels} | {"run-now/" + id_ for id_ in state.run_nows} | set(state.standing)
    assert held == kept


def test_a_command_is_read_back_as_written() -> None:
    commands = [
        cancel_command("j", replay=2, by="ann", at_ms=5, reason="why"),
        run_now_command("j", replay=2, by="ann", at_ms=6),
        retry_command("j", replay=3, by="ann", at_ms=7),
        discard_command("j", replay=3, by="ann", at_ms=7),
    ]
    state = fold(command.record() for command in commands)
    assert state.cancels == {"j": (2, "ann", 5, "why", False)}
    assert state.run_nows == {"j": (2, "ann", 6)}
    assert fold([*(c.record() for c in commands), withdraw("cancel/j", by="bob", at_ms=9).record()]).cancels == {}


def test_a_cancel_holds_up_to_its_replay() -> None:
    state = fold([cancel_command("j", replay=1, by="a", at_ms=0).record()])
    assert [state.cancel_of("j", replay) is not None for replay in (0, 1, 2)] == [True, True, False]
    assert state.cancel_of("k", 0) is None


def test_a_run_now_does_not_hold_for_what_was_set_later_or_for_another_replay() -> None:
    state = fold([run_now_command("j", replay=1, by="a", at_ms=100).record()])
    assert state.run_now_of("j", 1, waits_since_ms=100) is not None
    assert state.run_now_of("j", 1, waits_since_ms=101) is None
    assert state.run_now_of("j", 0, waits_since_ms=0) is None


def test_commands_beyond_the_bound_are_counted_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_JOB_COMMANDS", 2)
    state = fold(cancel_command(str(n), replay=0, by="a", at_ms=0).record() for n in range(3))
    assert (set(state.cancels), state.refused) == ({"0", "1"}, 1)
    state.apply(*cancel_command("1", replay=5, by="b", at_ms=1).record())
    assert state.cancels["1"].replay == 5, "one that stands may change"


def test_standing_commands_are_found_by_prefix() -> None:
    state = fold([(b"pause/queue/q", b'{"by": "a"}'), (b"pause/tenant/q/t", b"{}"), (b"kill/x", b'{"type": "t"}')])
    assert dict(state.under("pause/queue/")) == {"q": {"by": "a"}}
    assert [rest for rest, _ in state.under("pause/")] == ["queue/q", "tenant/q/t"]
