"""Partitions are shared evenly, each exactly once, and as few as possible move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.membership.sticky_assignor import share_out

from logqueue.ids import TopicPartition

TOPICS = {"jobs.a": 16, "retry.a.g": 4, "parked.a.g": 1}
PARTITIONS = [TopicPartition(topic, number) for topic, count in TOPICS.items() for number in range(count)]
SHARDED = [
    TopicPartition(topic, number)
    for topic, count in {"jobs.b": 8, "jobs.b.high": 8, "retry.b.g": 8, "jobs.c": 3, "retry.c.g": 2}.items()
    for number in range(count)
]
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


@given(members, members, st.lists(st.sampled_from(SHARDED), max_size=20))
def test_the_same_numbers_of_a_familys_topics_have_one_owner(
    before: list[str], after: list[str], stale: list[TopicPartition]
) -> None:
    def family(topic: str) -> str:
        return topic.split(".")[1]

    names = {partition.topic for partition in SHARDED}
    owned = share_out(SHARDED, dict.fromkeys(before, names), {}, family)
    claims = {name: [*owned.get(name, []), *stale] for name in after}
    shares = share_out(SHARDED, dict.fromkeys(after, names), claims, family)
    assert sorted(partition for share in shares.values() for partition in share) == sorted(SHARDED)
    owners: dict[tuple[str, int], set[str]] = {}
    for name, share in shares.items():
        for partition in share:
            owners.setdefault((family(partition.topic), partition.partition), set()).add(name)
    assert all(len(found) == 1 for found in owners.values())
    units = [len({(family(p.topic), p.partition) for p in share}) for share in shares.values()]
    assert max(units) - min(units) <= 1


@given(members, members)
def test_shards_stay_where_they_are_as_far_as_shares_allow(before: list[str], after: list[str]) -> None:
    owned = share_out(PARTITIONS, subscribed(before), {}, lambda topic: "a")
    shares = share_out(PARTITIONS, subscribed(after), owned, lambda topic: "a")
    for name in set(before) & set(after):
        had = {partition.partition for partition in owned[name]}
        has = {partition.partition for partition in shares[name]}
        assert len(had & has) == min(len(had), len(has))


def test_a_family_that_nobody_subscribes_to_as_a_whole_is_shared_by_topic() -> None:
    subscriptions = {"old": {"jobs.a", "retry.a.g"}, "new": {"jobs.a", "parked.a.g"}}
    shares = share_out(PARTITIONS, subscriptions, {}, lambda topic: "a")
    assert sorted(shares["old"] + shares["new"]) == sorted(PARTITIONS)


def test_a_member_gets_only_topics_it_subscribes_to() -> None:
    shares = share_out(PARTITIONS, {"a": {"jobs.a"}, "b": {"jobs.a", "retry.a.g", "parked.a.g"}}, {})
    assert {partition.topic for partition in shares["a"]} == {"jobs.a"}
    assert sorted(shares["a"] + shares["b"]) == sorted(PARTITIONS)
