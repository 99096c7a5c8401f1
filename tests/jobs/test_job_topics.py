"""Names and configurations of the job topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.topics import GROUP_NAME, PREFIX, PRIORITY_NAME, QUEUE_NAME, TopicKind, TopicNames, TopicRole

QUEUES = st.from_regex(QUEUE_NAME, fullmatch=True).filter(lambda name: name not in ("status", "control", "schedules"))
GROUPS = st.from_regex(GROUP_NAME, fullmatch=True)


@given(prefix=st.from_regex(PREFIX, fullmatch=True), queue=QUEUES, group=GROUPS)
def test_a_name_says_what_its_topic_is_for(prefix: str, queue: str, group: str) -> None:
    names = TopicNames(prefix)
    assert names.role(names.jobs(queue)) == TopicRole(kind=TopicKind.JOBS, queue=queue)
    for kind in ("retry", "dlq", "parked"):
        topic = getattr(names, kind)(queue, group)
        assert names.role(topic) == TopicRole(kind=TopicKind(kind), queue=queue, group=group)
        assert len(topic) <= 249, "Kafka's limit"


@given(queue=QUEUES, priority=st.from_regex(PRIORITY_NAME, fullmatch=True))
def test_a_priority_class_has_a_topic_of_its_own_with_as_many_partitions(queue: str, priority: str) -> None:
    names = TopicNames()
    spec = names.jobs_spec(queue, partitions=7, priority=priority)
    assert names.role(spec.name) == TopicRole(kind=TopicKind.JOBS, queue=queue, priority=priority)
    assert (spec.partitions, spec.like) == (7, names.jobs(queue))


def test_the_retry_topic_has_as_many_partitions_as_the_job_topic() -> None:
    retry = TopicNames().group_specs("a", "g", partitions=7)[0]
    assert (retry.name, retry.partitions, retry.like) == ("retry.a.g", 7, "jobs.a")


def test_the_shared_topics_are_recognised() -> None:
    names = TopicNames("x.")
    assert names.role("x.jobs.status") == TopicRole(kind=TopicKind.STATUS)
    assert names.role("x.jobs.control") == TopicRole(kind=TopicKind.CONTROL)
    assert names.role("x._schemas") == TopicRole(kind=TopicKind.SCHEMAS)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "jobs",
        "jobs.",
        "jobs.A",
        "jobs.a.B",
        "jobs.a.b.c",
        "jobs.status.high",
        "retry.a",
        "retry.a.",
        "other.a.b",
        "jobs.scheduled.x.y",
    ],
)
def test_other_topics_are_none_of_ours(topic: str) -> None:
    assert TopicNames().role(topic) is None


@pytest.mark.parametrize("queue", ["", "A", "-a", "a.b", "a_b", "é", "a" * 101, "status", "control", "a\n"])
def test_a_queue_name_that_cannot_be_is_refused(queue: str) -> None:
    with pytest.raises(InvalidDefinition, match="Queue name"):
        TopicNames().jobs(queue)


def test_no_job_is_lost_to_retention_by_time() -> None:
    names = TopicNames()
    for spec in [names.jobs_spec("a"), *names.group_specs("a", "g"), names.status_spec()]:
        assert spec.configs["retention.ms"] == "-1"
    assert names.status_spec().configs["cleanup.policy"] == "compact,delete"
    assert names.schemas_spec().partitions == 1
