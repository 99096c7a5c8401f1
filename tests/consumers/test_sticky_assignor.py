"""Partitions are shared evenly, each exactly once, and as few as possible move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.sticky_assignor import share_out

from logqueue.ids import TopicPartition

TOPICS = {"jobs.a": 16, "retry.a.g": 4, "parked.a.g": 1}
PARTITIONS = [TopicPartition(topic, number) for topic, count in TOPICS.items() for number in range(count)]
members = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)


def subscribed(names: list[str]) -> dict[str, set[str]]:
    return {name: set(TOPICS) for name in names}


@given(members, members, st.data())
def test_every_partition_has_one_owner_and_shares_differ_by_at_most_one(
    before: list[str], after: list[str], data: st.DataObject
) -> None:
    owned = share_out(PARTITIONS, subscribed(before), {})
    stale = data.draw(st.lists(st.sampled_from(PARTITIONS), max_size=5))
    claims = {name: [*owned.get(name, []), *stale] for name in after}
    shares = share_out(PARTITIONS, subscribed(after), claims)
    given_out = [partition for share in shares.values() for partition in share]
    assert sorted(given_out) == sorted(PARTITIONS)
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(members)
def test_nothing_moves_when_nobody_came_or_went(names: list[str]) -> None:
    shares = share_out(PARTITIONS, subscribed(names), {})
    again = share_out(PARTITIONS, subscribed(names), shares)
    assert {name: set(share) for name, share in again.items()} == {name: set(share) for name, share in shares.items()}


@given(members, members)
def test_members_keep_of_each_topic_what_their_share_has_room_for(before: list[str], after: list[str]) -> None:
    owned = share_out(PARTITIONS, subscribed(before), {})
    shares = share_out(PARTITIONS, subscribed(after), owned)
    for name in set(before) & set(after):
        for topic in TOPICS:
            had = {partition for partition in owned[name] if partition.topic == topic}
            has = {partition for partition in shares[name] if partition.topic == topic}
            assert len(had & has) == min(len(had), len(has))


@given(members, members)
def test_the_partitions_of_each_topic_are_spread(before: list[str], after: list[str]) -> None:
    shares = share_out(PARTITIONS, subscribed(after), share_out(PARTITIONS, subscribed(before), {}))
    for topic in TOPICS:
        counts = [sum(partition.topic == topic for partition in share) for share in shares.values()]
        assert max(counts) - min(counts) <= 1


def test_a_member_gets_only_topics_it_subscribes_to() -> None:
    shares = share_out(PARTITIONS, {"a": {"jobs.a"}, "b": {"jobs.a", "retry.a.g", "parked.a.g"}}, {})
    assert {partition.topic for partition in shares["a"]} == {"jobs.a"}
    assert sorted(shares["a"] + shares["b"]) == sorted(PARTITIONS)
