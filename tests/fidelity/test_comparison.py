"""The comparison itself: it finds what differs, allows only what has a reason, and makes scripts short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fidelity import actions
from tests.fidelity.allowed import ALLOWED, allowance
from tests.fidelity.messages import Names
from tests.fidelity.running import Observation, differences
from tests.fidelity.shrink import shrink
from tests.fidelity.steps import ACTIONS, Step, scripts, step

STEPS = [step("heartbeat", number=number) for number in range(20)]


def seen(*answers: object) -> list[Observation]:
    return [Observation(answer, {}) for answer in answers]


def test_the_first_step_that_differs_is_told_with_the_path_to_what_differs() -> None:
    ours = seen({"error_code": 0}, {"topics": [{"name": "t", "offset": 4}]}, {"error_code": 1})
    theirs = seen({"error_code": 0}, {"topics": [{"name": "t", "offset": 5}]}, {"error_code": 2})
    (found,) = differences(STEPS[:3], ours, theirs)
    assert (found.step, found.path, found.ours, found.theirs) == (STEPS[1], "answer.topics[t].offset", 4, 5)


def test_an_answer_that_only_one_log_gives_is_a_difference() -> None:
    ours = [Observation(None, {"g m": {"error_code": 0}})]
    (found,) = differences(STEPS[:1], ours, [Observation(None, {})])
    assert found.theirs == "<waits>"


def test_what_follows_a_difference_that_parts_the_logs_is_not_compared() -> None:
    steps = [step("delete_groups", groups=["g0"]), step("heartbeat", group="g0")]
    ours = seen({"results": [{"error_code": 69}]}, {"error_code": 25})
    theirs = seen({"results": [{"error_code": 0}]}, {"error_code": 0})
    assert differences(steps, ours, theirs) == []
    assert differences(steps[::-1], ours, theirs)


def test_some_differences_are_allowed_only_behind_what_causes_them() -> None:
    cause, other = (step("offset_commit", group="g0", metadata=size) for size in (4097, 4096))
    empty = {"group_id": "g0", "group_state": "Empty"}
    ours, theirs = seen({}, {"groups": [empty]}), seen({}, {"groups": []})
    assert differences([cause, step("list_groups")], ours, theirs) == []
    assert differences([other, step("list_groups")], ours, theirs)
    assert differences([other, step("list_groups")], theirs, ours)
    assert differences([cause, step("list_groups")], theirs, ours) == []


def test_ids_are_told_by_the_order_in_which_a_session_first_sees_them() -> None:
    names = Names("prefix")
    assert names.plain("prefix-t0") == "~-t0"
    assert [names.plain(id_, "producer_id") for id_ in (77, 5, 77, -1)] == [
        "<producer 0>",
        "<producer 1>",
        "<producer 0>",
        -1,
    ]


def test_every_allowed_difference_has_its_reason() -> None:
    assert all(len(allowed.reason) > 20 or allowed.reason == "the same" for allowed in ALLOWED)
    assert allowance(step("produce"), "answer.error_code", 0, 1) is None


@given(scripts(3))
def test_a_printed_step_can_be_typed_back(script: list[Step]) -> None:
    assert eval(repr(script), {"step": step}) == script


@given(st.sets(st.sampled_from(range(20)), min_size=1, max_size=4))
def test_shrinking_leaves_the_steps_that_matter(needed: set[int]) -> None:
    wanted = [STEPS[number] for number in sorted(needed)]
    short = shrink(STEPS, lambda script: all(one in script for one in wanted), tries=500)
    assert short == wanted


def test_shrinking_stops_at_its_bound() -> None:
    tries = 0

    def fails(_: list[Step]) -> bool:
        nonlocal tries
        tries += 1
        return False

    shrink(STEPS, fails, tries=3)
    assert tries == 3


def test_all_parts_of_the_protocol_have_actions() -> None:
    rooms = {action.run.__module__.rpartition(".")[2] for action in ACTIONS.values()}
    assert rooms == set(actions.__all__)
