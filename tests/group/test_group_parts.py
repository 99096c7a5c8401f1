"""The small parts of the coordinator: partition choice, deadlines, subscriptions, the table of states."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.coordination.effects import Append, Now
from logqueue.coordination.partitioning import java_hash, partition_of
from logqueue.coordination.timers import Timers
from logqueue.errors import ErrorCode
from logqueue.group.classic.states import MOVES, GroupState
from logqueue.group.classic.subscription import subscribed_topics
from logqueue.group.consumer.turns import Turn, Turns
from logqueue.group.ledger import Ledger
from tests.group.shell import subscription


@pytest.mark.parametrize(
    ("text", "hashed"),
    # Values of java.lang.String.hashCode; the last one is the smallest int.
    [("", 0), ("hello", 99162322), ("\U0001f600", 1772899), ("polygenelubricants", -(2**31))],
)
def test_groups_are_hashed_as_java_hashes_strings(text: str, hashed: int) -> None:
    assert java_hash(text) == hashed


def test_a_group_lives_in_the_partition_that_kafka_would_choose() -> None:
    assert partition_of("test", 50) == 48
    assert partition_of("polygenelubricants", 50) == 0


@given(st.text(), st.integers(1, 10_000))
def test_every_group_has_a_partition(group_id: str, partitions: int) -> None:
    assert 0 <= partition_of(group_id, partitions) < partitions


def test_a_deadline_is_taken_once_and_in_order() -> None:
    timers, seen = Timers(), list[str]()
    for name, deadline in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        timers.set(name, deadline, lambda now, name=name: seen.append(name))  # type: ignore[misc]
    while (action := timers.take_due(2.5)) is not None:
        action(Now(2.5, 0))
    assert seen == ["a", "b"]
    assert timers.next_deadline() == 3.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 20)), max_size=60), st.integers(0, 20))
def test_moved_and_cancelled_deadlines_are_as_in_a_plain_dictionary(
    moves: list[tuple[str, int | None]], now: int
) -> None:
    timers, model = Timers(), dict[str, int]()
    for key, deadline in moves:
        if deadline is None:
            timers.cancel(key)
            model.pop(key, None)
        else:
            timers.set(key, deadline, lambda _: None)
            model[key] = deadline
        assert timers.next_deadline() == min(model.values(), default=None)
    taken = 0
    while timers.take_due(now) is not None:
        taken += 1
    assert taken == sum(deadline <= now for deadline in model.values())


def test_the_topics_of_a_subscription_are_read_whatever_follows_them() -> None:
    assert subscribed_topics(subscription("a", "b") + b"future") == {"a", "b"}
    assert subscribed_topics(b"\x00\x63" + subscription("a")[2:]) == {"a"}


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xff" + subscription("a")[2:], b"\x00\x00\x7f\xff\xff\xff"])
def test_what_is_no_subscription_names_no_topics(data: bytes) -> None:
    assert subscribed_topics(data) is None


def test_random_bytes_never_break_the_reading_of_a_subscription() -> None:
    source = random.Random(7)
    for _ in range(500):
        subscribed_topics(source.randbytes(source.randrange(40)))


def test_every_state_can_be_left_and_reached() -> None:
    assert set(MOVES) == set(GroupState)
    assert set().union(*MOVES.values()) == set(GroupState)


def test_a_turn_that_fails_takes_none_along_that_wait_behind_it() -> None:
    now = Now(0.0, 0)
    ran: list[int] = []
    ledger = Ledger(1)
    bugs: list[Exception] = []
    turns = Turns(ledger, on_bug=bugs.append)

    def fail(*_: object) -> None:
        raise ValueError("a bug")

    def end_append() -> None:
        (append,) = (effect for effect in ledger.drain() if isinstance(effect, Append))
        ledger.take(append.ticket).then(ErrorCode.NONE, now)

    turns.append("g", (), fail)
    waiting: list[Turn] = [
        lambda _: ran.append(1),
        fail,
        lambda _: turns.append("g", (), fail),
        lambda _: ran.append(2),
    ]
    for turn in waiting:
        turns.take("g", now, turn)
    end_append()
    assert ran == [1]
    end_append()
    assert ran == [1, 2]
    assert not turns.is_taken("g")
    assert [str(bug) for bug in bugs] == ["a bug"] * 3
