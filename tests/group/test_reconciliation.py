"""One member's next step towards its target (KIP-848), each line of the table of states."""

from __future__ import annotations

from typing import Any

import pytest

from logqueue.group.consumer.errors import FencedMemberEpoch
from logqueue.group.consumer.member import ConsumerMember, MemberState, Profile, Standing
from logqueue.group.consumer.reconciliation import Situation, reconcile

A, B = b"A" * 16, b"B" * 16
NOTHING: dict[bytes, frozenset[int]] = {}


def held(*numbers: int, topic: bytes = A) -> dict[bytes, frozenset[int]]:
    return {topic: frozenset(numbers)}


def step(standing: Standing, target: dict[bytes, frozenset[int]], **situation: Any) -> Standing:
    owners: dict[tuple[bytes, int], str] = situation.pop("owners", {})
    values: dict[str, Any] = {
        "target_epoch": 5,
        "target": target,
        "subscribed": {A, B},
        "has_new_subscription": False,
        "owned": None,
        "owner": lambda topic_id, number: owners.get((topic_id, number)),
        **situation,
    }
    return reconcile(ConsumerMember("m", Profile(), standing), Situation(**values))


def at(epoch: int, assigned: dict[bytes, frozenset[int]], **fields: Any) -> Standing:
    return Standing(epoch=epoch, previous_epoch=epoch - 1, assigned=assigned, **fields)


def test_who_is_at_the_target_stays() -> None:
    standing = at(5, held(1))
    assert step(standing, held(1, 2)) is standing


def test_who_has_to_give_up_stays_at_its_epoch_until_it_has() -> None:
    waiting = step(at(4, held(1, 2)), held(2, 3))
    assert waiting == Standing(
        epoch=4, previous_epoch=4, state=MemberState.UNREVOKED, assigned=held(2), revoking=held(1)
    )
    for still_owned in (None, held(1, 2), held(1)):
        assert step(waiting, held(2, 3), owned=still_owned) is waiting
    done = step(waiting, held(2, 3), owned=held(2))
    assert done == Standing(epoch=5, previous_epoch=4, assigned=held(2, 3))


def test_who_reports_to_own_nothing_any_more_need_not_be_told() -> None:
    assert step(at(4, held(1)), held(2), owned=NOTHING) == Standing(epoch=5, previous_epoch=4, assigned=held(2))


def test_what_others_hold_is_waited_for_at_the_new_epoch() -> None:
    waiting = step(at(4, NOTHING), held(1, 2), owners={(A, 1): "other"})
    assert waiting == Standing(epoch=5, previous_epoch=4, state=MemberState.UNRELEASED, assigned=held(2))
    assert step(waiting, held(1, 2)) == Standing(epoch=5, previous_epoch=5, assigned=held(1, 2))


def test_a_partition_that_comes_back_before_it_was_given_up_is_taken_at_once() -> None:
    waiting = at(4, held(2), state=MemberState.UNREVOKED, revoking=held(1))
    back = step(waiting, held(1, 2), owned=held(2), owners={(A, 1): "m", (A, 2): "m"})
    assert back == Standing(epoch=5, previous_epoch=4, assigned=held(1, 2))


def test_topics_that_are_not_read_any_more_are_given_up_whatever_the_target_says() -> None:
    both = {**held(1), **held(2, topic=B)}
    told = step(at(5, both), both, subscribed={A}, has_new_subscription=True)
    assert (told.epoch, told.state, told.assigned, told.revoking) == (
        5,
        MemberState.UNREVOKED,
        held(1),
        held(2, topic=B),
    )
    done = step(at(5, both), both, subscribed={A}, has_new_subscription=True, owned=held(1))
    assert (done.epoch, done.state, done.assigned) == (5, MemberState.STABLE, held(1))


def test_more_may_have_to_be_given_up_while_giving_up() -> None:
    waiting = at(4, held(1, topic=B), state=MemberState.UNREVOKED, revoking=held(1))
    more = step(waiting, NOTHING, subscribed={A}, has_new_subscription=True)
    assert more.assigned == NOTHING
    assert more.revoking == {**held(1), **held(1, topic=B)}


def test_a_state_of_a_newer_release_makes_the_member_join_anew() -> None:
    strange = at(4, held(1), state=MemberState.UNKNOWN)
    with pytest.raises(FencedMemberEpoch):
        step(strange, held(1), owned=held(1))
    assert step(strange, held(1), owned=NOTHING).state is MemberState.STABLE


@pytest.mark.parametrize(
    ("number", "state"), [(0, MemberState.STABLE), (2, MemberState.UNRELEASED), (9, MemberState.UNKNOWN)]
)
def test_numbers_of_records_name_states(number: int, state: MemberState) -> None:
    assert MemberState.of(number) is state
