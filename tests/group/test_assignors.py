"""The server-side assignors (KIP-848): complete, balanced, sticky; `range` in runs."""

from __future__ import annotations

from collections.abc import Mapping

import hypothesis.strategies as st
import pytest
from hypothesis import given

from logqueue.group.consumer.assignors import ASSIGNORS, Assignors
from logqueue.group.consumer.assignors.range import assign_ranges
from logqueue.group.consumer.assignors.subscriber import Subscriber
from logqueue.group.consumer.assignors.uniform import assign_uniformly
from logqueue.group.consumer.member import Partitions

A, B, C = b"A" * 16, b"B" * 16, b"C" * 16
TOPICS = (A, B, C)

counts = st.fixed_dictionaries({topic: st.integers(1, 7) for topic in TOPICS})
names = st.lists(st.sampled_from("pqrstuvw"), min_size=1, max_size=6, unique=True)
some_topics = st.sets(st.sampled_from(TOPICS)).map(frozenset)


def flat(share: Partitions) -> set[tuple[bytes, int]]:
    return {(topic_id, index) for topic_id, indexes in share.items() for index in indexes}


def asked_for(members: Mapping[str, Subscriber], partitions: Mapping[bytes, int]) -> set[tuple[bytes, int]]:
    read = {topic_id for member in members.values() for topic_id in member.topics}
    return {(topic_id, index) for topic_id in read for index in range(partitions[topic_id])}


@st.composite
def groups(draw: st.DrawFn, *, alike: bool | None = None) -> dict[str, Subscriber]:
    """Members with subscriptions, and with what an earlier assignment gave them."""
    ids = draw(names)
    same = draw(st.booleans()) if alike is None else alike
    topics = draw(some_topics)
    subscriptions = {name: topics if same else draw(some_topics) for name in ids}
    present: dict[str, dict[bytes, set[int]]] = {name: {} for name in ids}
    for topic_id in TOPICS:
        for index in range(8):
            owner = draw(st.sampled_from([None, *ids]))
            if owner is not None:
                present[owner].setdefault(topic_id, set()).add(index)
    return {
        name: Subscriber(
            topics=subscriptions[name],
            instance_id=f"i{name}" if draw(st.booleans()) else None,
            present={topic_id: frozenset(indexes) for topic_id, indexes in present[name].items()},
        )
        for name in ids
    }


@pytest.mark.parametrize("name", sorted(ASSIGNORS))
@given(members=groups(), partitions=counts)
def test_every_partition_that_is_read_has_one_owner_who_reads_it(
    name: str, members: dict[str, Subscriber], partitions: dict[bytes, int]
) -> None:
    shares = ASSIGNORS[name](members, partitions)
    assert shares.keys() == members.keys()
    everything = [partition for share in shares.values() for partition in flat(share)]
    assert sorted(everything) == sorted(asked_for(members, partitions))
    for member_id, share in shares.items():
        assert share.keys() <= members[member_id].topics


@given(members=groups(alike=True), partitions=counts)
def test_uniform_shares_of_members_that_read_the_same_differ_by_one_at_most(
    members: dict[str, Subscriber], partitions: dict[bytes, int]
) -> None:
    sizes = [len(flat(share)) for share in assign_uniformly(members, partitions).values()]
    assert max(sizes) - min(sizes) <= 1


@given(members=groups(alike=True), partitions=counts)
def test_uniform_moves_no_more_than_balance_wants(members: dict[str, Subscriber], partitions: dict[bytes, int]) -> None:
    shares = assign_uniformly(members, partitions)
    quota = -(-len(asked_for(members, partitions)) // len(members))
    for member_id, share in shares.items():
        kept = flat(members[member_id].present) & asked_for({member_id: members[member_id]}, partitions)
        assert len(flat(share) & kept) >= min(len(kept), quota - 1)


@given(members=groups(alike=False), partitions=counts)
def test_no_single_move_would_make_uniform_shares_more_even(
    members: dict[str, Subscriber], partitions: dict[bytes, int]
) -> None:
    shares = {member_id: flat(share) for member_id, share in assign_uniformly(members, partitions).items()}
    for giver, given_up in shares.items():
        for taker, member in members.items():
            movable = [partition for partition in given_up if partition[0] in member.topics]
            assert not movable or len(shares[giver]) - len(shares[taker]) <= 1


@pytest.mark.parametrize("name", sorted(ASSIGNORS))
@given(members=groups(), partitions=counts)
def test_assigning_again_changes_nothing(
    name: str, members: dict[str, Subscriber], partitions: dict[bytes, int]
) -> None:
    once = ASSIGNORS[name](members, partitions)
    again = {
        member_id: Subscriber(topics=m.topics, instance_id=m.instance_id, present=once[member_id])
        for member_id, m in members.items()
    }
    assert ASSIGNORS[name](again, partitions) == once


def test_range_gives_runs_static_members_first_and_the_same_numbers_of_equal_topics() -> None:
    both = frozenset({A, B})
    members = {
        "a": Subscriber(topics=both),
        "z": Subscriber(topics=both, instance_id="1"),
        "b": Subscriber(topics=both),
    }
    runs = {"z": frozenset({0, 1}), "a": frozenset({2}), "b": frozenset({3})}
    assert assign_ranges(members, {A: 4, B: 4}) == {name: {A: run, B: run} for name, run in runs.items()}


def test_uniform_hands_out_runs_to_members_that_have_nothing() -> None:
    members = {name: Subscriber(topics=frozenset({A})) for name in "xy"}
    assert assign_uniformly(members, {A: 5}) == {"x": {A: frozenset({0, 1})}, "y": {A: frozenset({2, 3, 4})}}


def test_a_group_of_a_thousand_members_is_assigned_in_well_under_a_second() -> None:
    members = {f"m{i:04}": Subscriber(topics=frozenset({A, B}) if i % 2 else frozenset({A, C})) for i in range(1_000)}
    shares = assign_uniformly(members, {A: 2_000, B: 1_000, C: 1_000})
    assert {len(flat(share)) for share in shares.values()} == {4}


def test_of_equally_wanted_assignors_the_one_offered_first_is_elected() -> None:
    offered = Assignors(("uniform", "range"))
    assert offered.elect({}) == "uniform"
    assert offered.elect({"range": 1, "uniform": 1}) == "uniform"
    assert offered.elect({"range": 2, "uniform": 1}) == "range"
    assert offered.elect({"gone": 3}) == "uniform"
