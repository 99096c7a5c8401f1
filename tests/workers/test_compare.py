"""Comparing a replay with what was recorded, and what effects answer in a replay. Values only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_api.cli.replay_report import told_comparison
from logqueue_consumers.replaying import compare
from logqueue_consumers.replaying.compare import Comparison, Ending, Verdict, check_pointer, differences
from logqueue_consumers.replaying.extent import Range, narrowed
from logqueue_schemas.job_status import State

from logqueue.jobs import effects
from logqueue.jobs.effects import Effects, effect_key, replayed_effect, with_effect
from logqueue.jobs.errors import EffectDenied, classify

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def found(recorded: Any, replayed: Any, *ignore: str) -> list[tuple[str, str | None, str | None]]:
    encoded = [json.dumps(value).encode() for value in (recorded, replayed)]
    return [(d.path, d.recorded, d.replayed) for d in differences(*encoded, ignore=ignore)]


@settings(deadline=None)
@given(values)
def test_a_result_does_not_differ_from_itself_in_another_order(value: Any) -> None:
    def turned(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {key: turned(inner[key]) for key in reversed(inner)}
        return [turned(part) for part in inner] if isinstance(inner, list) else inner

    assert found(value, turned(value)) == []


@settings(deadline=None)
@given(values, values)
def test_what_differs_one_way_differs_the_other_way_at_the_same_paths(one: Any, other: Any) -> None:
    assert {path for path, *_ in found(one, other)} == {path for path, *_ in found(other, one)}
    assert found(one, other, "") == [], "the empty path is all of it"


def test_differences_are_named_by_their_paths() -> None:
    recorded = {"total": 10, "lines": [{"sku": "a", "at": 1}, {"sku": "b", "at": 2}], "a/b": 1}
    replayed = {"total": 11, "lines": [{"sku": "a", "at": 5}], "a/b": 2, "new": True}
    assert found(recorded, replayed) == [
        ("/total", "10", "11"),
        ("/lines/0/at", "1", "5"),
        ("/lines/1", '{"sku":"b","at":2}', None),
        ("/a~1b", "1", "2"),
        ("/new", None, "true"),
    ]
    assert [path for path, *_ in found(recorded, replayed, "/lines/*/at", "/total", "/a~1b")] == ["/lines/1", "/new"]


def test_numbers_are_equal_by_value_and_truth_is_no_number() -> None:
    assert found(1, 1.0) == []
    assert found(True, 1) == [("", "true", "1")]
    assert list(differences(None, None)) == []


def test_verdicts_count_what_happened_to_each_job() -> None:
    ok, other = Ending(has_succeeded=True, result=b'{"n":1}'), Ending(has_succeeded=True, result=b'{"n":2}')
    failed = Ending(has_succeeded=False, error_type="ValueError")
    comparison = Comparison()
    cases = [
        (ok, ok, Verdict.SAME),
        (ok, other, Verdict.DIFFERENT),
        (ok, failed, Verdict.NOW_FAILS),
        (failed, ok, Verdict.NOW_SUCCEEDS),
        (failed, Ending(has_succeeded=False, error_type="KeyError"), Verdict.FAILS_DIFFERENTLY),
        (failed, failed, Verdict.SAME),
        (None, ok, Verdict.NOT_RECORDED),
    ]
    for number, (recorded, replayed, verdict) in enumerate(cases):
        assert comparison.add(f"j{number}", "t", recorded=recorded, replayed=replayed) is verdict
    summary = comparison.summary()
    assert summary.compared == 7
    assert summary.verdicts["same"] == 2
    assert summary.paths == {"/n": 1}
    assert [example.id for example in summary.examples] == ["j1", "j2", "j3", "j4"]
    assert not summary.is_same


def test_a_live_run_that_was_cancelled_is_not_told_as_one_that_succeeded() -> None:
    comparison = Comparison()
    ok, cancelled = Ending.of(State.SUCCEEDED), Ending.of(State.CANCELLED)
    assert comparison.add("j", "t", recorded=cancelled, replayed=ok) is Verdict.NOW_SUCCEEDS
    assert comparison.add("k", "t", recorded=ok, replayed=cancelled) is Verdict.NOW_FAILS
    assert list(told_comparison(comparison.summary()))[1:] == [
        "  j (t): now-succeeds: cancelled -> succeeded",
        "  k (t): now-fails: succeeded -> cancelled",
    ]


def test_examples_and_paths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MAX_EXAMPLES", 2)
    monkeypatch.setattr(compare, "MAX_PATHS", 3)
    comparison = Comparison()
    for number in range(9):
        replayed = Ending(has_succeeded=True, result=json.dumps({f"k{number}": 1}).encode())
        comparison.add("j", "t", recorded=Ending(has_succeeded=True, result=b"{}"), replayed=replayed)
    summary = comparison.summary()
    assert len(summary.examples) == 2
    assert summary.paths == {"/k0": 1, "/k1": 1, "/k2": 1, compare.OTHER_PATHS: 6}


def test_a_path_begins_with_a_slash() -> None:
    assert check_pointer("/a/*") == "/a/*"
    with pytest.raises(ValueError, match="is not a path"):
        check_pointer("total")


def test_effects_are_recorded_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    details = with_effect({"version": 2}, effect_key("send", 0), {"id": 1})
    assert details == {"version": 2, "effects": {"send#0": {"id": 1}}}
    for unkeepable in (object(), "x" * (effects.MAX_EFFECT_BYTES + 1)):
        assert with_effect(details, "send#1", unkeepable)["effects_dropped"] == 1
    monkeypatch.setattr(effects, "MAX_EFFECTS", 1)
    assert with_effect(details, "send#1", 1)["effects_dropped"] == 1
    assert details == {"version": 2, "effects": {"send#0": {"id": 1}}}, "what was written is not changed"


def test_a_replay_answers_effects_as_it_was_asked_to() -> None:
    recorded = {"effects": {"send#0": {"id": 1}}}
    assert replayed_effect(Effects.NONE, "send#0", recorded) is None
    assert replayed_effect(Effects.RECORDED, "send#0", recorded) == {"id": 1}
    for policy, known in [(Effects.DENY, recorded), (Effects.RECORDED, None), (Effects.RECORDED, {"effects": {}})]:
        with pytest.raises(EffectDenied) as denied:
            replayed_effect(policy, "send#0", known)
        assert classify(denied.value) == "permanent", "a denied effect is not tried again"


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60), st.integers(0, 70))
def test_chosen_records_are_counted_as_a_plain_list_would(chosen: set[int], start: int, more: int, upto: int) -> None:
    tp = TopicPartition("t", 3)
    extent = narrowed({tp: Range(start, start + more)}, {3: sorted(chosen)})[tp]
    kept = [offset for offset in sorted(chosen) if start <= offset < start + more]
    assert [offset for offset in range(130) if extent.holds(offset)] == kept
    assert extent.count() == len(kept)
    assert extent.count(upto) == len([offset for offset in kept if offset < upto])
    assert narrowed({tp: Range(start, start + more)}, {})[tp].count() == 0
