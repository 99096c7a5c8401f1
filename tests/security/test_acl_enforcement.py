"""Every API asks for the rights that Kafka's asks for, and nothing is served that no rule was written for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from logqueue.broker.security.guards.table import GUARDS
from logqueue.config.security import STANDARD_AUTHORIZER
from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from logqueue.protocol.messages.create_acls import AclCreation, CreateAclsRequest
from logqueue.protocol.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest
from logqueue.protocol.messages.delete_groups import DeleteGroupsRequest
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from logqueue.protocol.messages.describe_acls import DescribeAclsRequest
from logqueue.protocol.messages.describe_cluster import DescribeClusterRequest
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from logqueue.protocol.messages.describe_topic_partitions import Cursor as RequestCursor
from logqueue.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.list_groups import ListGroupsRequest
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logqueue.protocol.versions import SERVED
from logqueue.security.acl import CLUSTER_NAME, Operation, PatternType, Permission, ResourceType
from tests.broker import wire as broker_wire
from tests.broker.wire import (
    PAUSE_SECONDS,
    WAIT_SECONDS,
    Wire,
    batch,
    fetch_request,
    produce_request,
    served,
    values_of,
)
from tests.conftest import missing
from tests.engines.apache import EngineMissing, apache_kafka
from tests.security.acl_script import STEPS, TOPIC_DENIED, Step, denials, resource_name
from tests.security.login import wire_of
from tests.security.people import ADMIN, BOB, Person

PRINCIPAL = f"User:{BOB.name}"


def jaas(*people: Person) -> str:
    """Apache Kafka's way to say who there is for PLAIN; the first is the broker itself."""
    users = " ".join(f'user_{person.name}="{person.password}"' for person in people)
    login = f'username="{people[0].name}" password="{people[0].password}"'
    return f"org.apache.kafka.common.security.plain.PlainLoginModule required {login} {users};"


APACHE = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": jaas(ADMIN, BOB),
    "authorizer.class.name": STANDARD_AUTHORIZER,
    "super.users": f"User:ANONYMOUS;User:{ADMIN.name}",
}


@pytest.fixture(scope="module", params=["embedded", "apache"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that lets the admin do everything and others what ACLs say."""
    if request.param not in os.environ.get("LOGQUEUE_TEST_ENGINES", "embedded,apache").split(","):
        pytest.skip(f"LOGQUEUE_TEST_ENGINES leaves out {request.param}")
    if request.param == "embedded":
        yield request.getfixturevalue("fortress").address_of("SASL_PLAINTEXT")
        return
    try:
        with apache_kafka(tmp_path_factory.mktemp("guarded"), APACHE) as bootstrap:
            yield bootstrap
    except EngineMissing as error:
        missing(str(error))


@pytest.fixture
def admin(guarded: str) -> Iterator[Wire]:
    with wire_of(guarded, ADMIN) as wire:
        yield wire
        anything = DeleteAclsFilter(resource_type_filter=1, pattern_type_filter=1, operation=1, permission_type=1)
        assert wire.call(2, DeleteAclsRequest(filters=[anything])).filter_results[0].error_code == 0
        wait_for_acls(wire, are_there=False, resource_type_filter=1, pattern_type_filter=1)


@pytest.fixture
def bob(guarded: str, admin: Wire) -> Iterator[Wire]:
    with wire_of(guarded, BOB) as wire:
        yield wire


def allow(
    admin: Wire,
    kind: ResourceType,
    operation: Operation,
    name: str,
    *,
    pattern: PatternType = PatternType.LITERAL,
    permission: Permission = Permission.ALLOW,
) -> None:
    acl = AclCreation(
        resource_type=kind,
        resource_name=resource_name(kind, name),
        resource_pattern_type=pattern,
        principal=PRINCIPAL,
        host="*",
        operation=operation,
        permission_type=permission,
    )
    assert admin.call(2, CreateAclsRequest(creations=[acl])).results[0].error_code == 0
    wait_for_acls(
        admin,
        are_there=True,
        resource_type_filter=kind,
        resource_name_filter=acl.resource_name,
        pattern_type_filter=pattern,
        operation=operation,
        permission_type=permission,
    )


def wait_for_acls(admin: Wire, *, are_there: bool, operation: int = 1, permission_type: int = 1, **wanted: Any) -> None:
    """Apache Kafka answers a change before its authorizer knows of it; what it describes, it acts by."""
    request = DescribeAclsRequest(operation=operation, permission_type=permission_type, **wanted)
    deadline = time.monotonic() + WAIT_SECONDS
    while bool(admin.call(2, request).resources) is not are_there:
        assert time.monotonic() < deadline, "the change does not take effect"
        time.sleep(PAUSE_SECONDS)


def create(admin: Wire, name: str, **options: Any) -> Any:
    """A topic that is there for every request; the answer to its creation."""
    answer = broker_wire.create(admin, name, **options)
    served(admin, name)
    return answer


def make_group(admin: Wire, name: str) -> None:
    """Commit an offset; a coordinator that has just begun may need a moment."""
    admin.call(4, FindCoordinatorRequest(key_type=0, coordinator_keys=[name]))
    part = OffsetCommitRequestPartition(partition_index=0, committed_offset=0)
    request = OffsetCommitRequest(group_id=name, topics=[OffsetCommitRequestTopic(name=name, partitions=[part])])
    deadline = time.monotonic() + WAIT_SECONDS
    while admin.call(8, request).topics[0].partitions[0].error_code != ErrorCode.NONE:
        assert time.monotonic() < deadline, "the coordinator does not come"
        time.sleep(PAUSE_SECONDS)


def test_every_api_that_is_served_has_a_guard() -> None:
    assert set(SERVED) <= set(GUARDS), {ApiKey(key).name for key in set(SERVED) - set(GUARDS)}


@pytest.mark.parametrize("step", list(STEPS), ids=lambda step: step.name)
def test_a_request_needs_its_rights_one_after_the_other(step: Step, admin: Wire, bob: Wire, prefix: str) -> None:
    key = step.make(prefix).api_key
    if key not in SERVED:
        pytest.skip(f"{step.name} is not served")
    create(admin, prefix)
    if step.name == "offset_delete":
        make_group(admin, prefix)
    for (kind, operation), denial in step.needs:
        answer = bob.call(step.version, step.make(prefix))
        assert denials(answer) == {denial}, f"without {operation.name} on {kind.name}"
        allow(admin, kind, operation, prefix, pattern=_pattern(kind))
    assert denials(bob.call(step.version, step.make(prefix))) == set()


def _pattern(kind: ResourceType) -> PatternType:
    return PatternType.LITERAL if kind is ResourceType.CLUSTER else PatternType.PREFIXED


def test_records_of_allowed_topics_are_written_and_the_others_are_refused_one_by_one(
    admin: Wire, bob: Wire, prefix: str
) -> None:
    for name in (f"{prefix}-mine", f"{prefix}-theirs"):
        create(admin, name)
    allow(admin, ResourceType.TOPIC, Operation.ALL, f"{prefix}-mine")
    request = ProduceRequest(
        acks=1,
        timeout_ms=5000,
        topic_data=[
            TopicProduceData(
                name=f"{prefix}-{whose}",
                partition_data=[PartitionProduceData(index=0, records=memoryview(batch(b"v")))],
            )
            for whose in ("theirs", "mine")
        ],
    )
    codes = {r.name: r.partition_responses[0].error_code for r in bob.call(9, request).responses}
    assert codes == {f"{prefix}-mine": 0, f"{prefix}-theirs": TOPIC_DENIED}
    fetched = bob.call(12, fetch_request(f"{prefix}-mine", 0))
    assert values_of(fetched) == [b"v"]
    assert admin.call(12, fetch_request(f"{prefix}-theirs", 0)).responses[0].partitions[0].high_watermark == 0


def test_a_refused_produce_without_acknowledgement_ends_its_connection(admin: Wire, bob: Wire, prefix: str) -> None:
    create(admin, prefix)
    bob.send(9, produce_request(prefix, batch(b"v"), acks=0))
    assert bob.is_closed_by_broker()


def test_without_acknowledgement_what_is_allowed_is_written_before_the_connection_ends(
    admin: Wire, bob: Wire, prefix: str
) -> None:
    for name in (f"{prefix}-mine", f"{prefix}-theirs"):
        create(admin, name)
    allow(admin, ResourceType.TOPIC, Operation.ALL, f"{prefix}-mine")
    request = produce_request(f"{prefix}-theirs", batch(b"v"), acks=0)
    request.topic_data += produce_request(f"{prefix}-mine", batch(b"v"), acks=0).topic_data
    bob.send(9, request)
    assert bob.is_closed_by_broker()
    marks = [admin.call(12, fetch_request(f"{prefix}-{whose}", 0)) for whose in ("mine", "theirs")]
    assert [answer.responses[0].partitions[0].high_watermark for answer in marks] == [1, 0]


def test_a_parked_fetch_of_an_allowed_topic_is_answered_with_the_refused_ones(
    guarded: str, admin: Wire, bob: Wire, prefix: str
) -> None:
    create(admin, prefix)
    allow(admin, ResourceType.TOPIC, Operation.READ, prefix)
    request = fetch_request(prefix, 0, max_wait_ms=60_000)
    request.topics += fetch_request(f"{prefix}-other", 0).topics
    bob.send(12, request)
    with wire_of(guarded, ADMIN) as other:
        other.call(9, produce_request(prefix, batch(b"wakes"), acks=1))
    answer = bob.receive()[1]
    assert {t.topic: t.partitions[0].error_code for t in answer.responses} == {
        prefix: 0,
        f"{prefix}-other": TOPIC_DENIED,
    }


def test_a_right_that_was_taken_away_ends_reading_however_the_reader_fetches(
    guarded: str, admin: Wire, bob: Wire, prefix: str
) -> None:
    create(admin, prefix)
    allow(admin, ResourceType.TOPIC, Operation.READ, prefix)
    opened = bob.call(12, fetch_request(prefix, 0, session_epoch=0))
    assert opened.responses[0].partitions[0].error_code == 0
    allow(admin, ResourceType.TOPIC, Operation.READ, prefix, permission=Permission.DENY)
    with wire_of(guarded, ADMIN) as other:
        other.call(9, produce_request(prefix, batch(b"secret"), acks=1))
    following = fetch_request(prefix, 0, session_id=opened.session_id, session_epoch=1 if opened.session_id else 0)
    following.topics = [] if opened.session_id else following.topics
    answer = bob.call(12, following)
    assert [p.error_code for topic in answer.responses for p in topic.partitions] == [TOPIC_DENIED]


def test_metadata_hides_what_may_not_be_described(admin: Wire, bob: Wire, prefix: str) -> None:
    for name in (f"{prefix}-mine", f"{prefix}-theirs"):
        create(admin, name)
    allow(admin, ResourceType.TOPIC, Operation.READ, f"{prefix}-mine")
    assert [t.name for t in bob.call(9, MetadataRequest(topics=None)).topics] == [f"{prefix}-mine"]
    named = [MetadataRequestTopic(name=f"{prefix}-{whose}") for whose in ("mine", "theirs", "none")]
    answer = bob.call(9, MetadataRequest(topics=named, allow_auto_topic_creation=False))
    assert {t.name: t.error_code for t in answer.topics} == {
        f"{prefix}-mine": 0,
        f"{prefix}-theirs": TOPIC_DENIED,
        f"{prefix}-none": TOPIC_DENIED,
    }


def test_what_is_refused_is_told_once_however_often_it_was_asked_for(admin: Wire, bob: Wire, prefix: str) -> None:
    create(admin, prefix)
    make_group(admin, prefix)
    asking = MetadataRequest(topics=[MetadataRequestTopic(name=prefix)] * 2)
    assert [(t.name, t.error_code) for t in bob.call(9, asking).topics] == [(prefix, TOPIC_DENIED)]
    assert [(t.name, t.error_code) for t in admin.call(9, asking).topics] == [(prefix, ErrorCode.NONE)]
    deletion = DeleteGroupsRequest(groups_names=[prefix] * 2)
    for wire, code in ((bob, ErrorCode.GROUP_AUTHORIZATION_FAILED), (admin, ErrorCode.NONE)):
        assert [(r.group_id, r.error_code) for r in wire.call(2, deletion).results] == [(prefix, code)]


def test_no_page_of_topics_names_what_may_not_be_described(admin: Wire, bob: Wire, prefix: str) -> None:
    for whose in ("a-mine", "b-theirs", "c-mine", "d-theirs"):
        create(admin, f"{prefix}-{whose}", partitions=2)
    for whose in ("a-mine", "c-mine"):
        allow(admin, ResourceType.TOPIC, Operation.DESCRIBE, f"{prefix}-{whose}")
    seen: list[tuple[str, int]] = []
    cursor = None
    for _ in range(10):
        page = bob.call(0, DescribeTopicPartitionsRequest(topics=[], response_partition_limit=1, cursor=cursor))
        seen += [(topic.name, part.partition_index) for topic in page.topics for part in topic.partitions]
        if page.next_cursor is None:
            break
        cursor = RequestCursor(topic_name=page.next_cursor.topic_name, partition_index=page.next_cursor.partition_index)
        assert cursor.topic_name.endswith("mine")
    assert seen == [(f"{prefix}-{whose}", index) for whose in ("a-mine", "c-mine") for index in (0, 1)]


def test_a_topic_by_id_is_not_named_to_those_who_may_not_describe_it(admin: Wire, bob: Wire, prefix: str) -> None:
    topic_id = create(admin, prefix).topic_id
    by_id = MetadataRequest(topics=[MetadataRequestTopic(topic_id=topic_id, name=None)])
    told = bob.call(12, by_id).topics[0]
    assert (told.error_code, told.name, told.topic_id) == (TOPIC_DENIED, None, topic_id)
    deletion = DeleteTopicsRequest(topics=[DeleteTopicState(name=None, topic_id=topic_id)], timeout_ms=1000)
    told = bob.call(6, deletion).responses[0]
    assert (told.error_code, told.name) == (TOPIC_DENIED, None)
    allow(admin, ResourceType.TOPIC, Operation.DESCRIBE, prefix)
    told = bob.call(6, deletion).responses[0]
    assert (told.error_code, told.name) == (TOPIC_DENIED, prefix)


def test_operations_that_are_allowed_are_told(admin: Wire, bob: Wire, prefix: str) -> None:
    create(admin, prefix)
    allow(admin, ResourceType.TOPIC, Operation.WRITE, prefix)
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=prefix)],
        include_topic_authorized_operations=True,
        include_cluster_authorized_operations=True,
    )
    answer = bob.call(9, request)
    assert answer.topics[0].topic_authorized_operations == 1 << Operation.WRITE | 1 << Operation.DESCRIBE
    assert answer.cluster_authorized_operations == 0
    allow(admin, ResourceType.CLUSTER, Operation.DESCRIBE, CLUSTER_NAME)
    cluster = bob.call(1, DescribeClusterRequest(include_cluster_authorized_operations=True))
    assert cluster.cluster_authorized_operations == 1 << Operation.DESCRIBE
    make_group(admin, prefix)
    allow(admin, ResourceType.GROUP, Operation.DELETE, prefix)
    groups = bob.call(5, DescribeGroupsRequest(groups=[prefix], include_authorized_operations=True)).groups
    assert groups[0].authorized_operations == 1 << Operation.DELETE | 1 << Operation.DESCRIBE


NO_COORDINATOR = {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
}


def commit(wire: Wire, request: OffsetCommitRequest) -> None:
    """Commit; asking for the coordinator makes Kafka create its topic, after which it takes a while to begin."""
    wire.call(2, FindCoordinatorRequest(key=request.group_id))
    deadline = time.monotonic() + WAIT_SECONDS
    while NO_COORDINATOR & {part.error_code for topic in wire.call(8, request).topics for part in topic.partitions}:
        assert time.monotonic() < deadline, "the group's coordinator did not begin"


def test_groups_and_offsets_are_shown_as_far_as_they_may_be_described(admin: Wire, bob: Wire, prefix: str) -> None:
    for name in (f"{prefix}-mine", f"{prefix}-theirs"):
        create(admin, name)
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=0)
        topics = [OffsetCommitRequestTopic(name=t, partitions=[part]) for t in (f"{prefix}-mine", f"{prefix}-theirs")]
        commit(admin, OffsetCommitRequest(group_id=name, topics=topics))
    mine = f"{prefix}-mine"
    assert bob.call(4, ListGroupsRequest()).groups == []
    allow(admin, ResourceType.GROUP, Operation.DESCRIBE, mine)
    assert [g.group_id for g in bob.call(4, ListGroupsRequest()).groups] == [mine]
    everything = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=mine, topics=None)])
    assert bob.call(8, everything).groups[0].topics == []
    allow(admin, ResourceType.TOPIC, Operation.DESCRIBE, mine)
    assert [t.name for t in bob.call(8, everything).groups[0].topics] == [mine]


def test_a_denial_beats_what_is_allowed(admin: Wire, bob: Wire, prefix: str) -> None:
    create(admin, prefix)
    allow(admin, ResourceType.TOPIC, Operation.ALL, prefix)
    allow(admin, ResourceType.TOPIC, Operation.WRITE, prefix, permission=Permission.DENY)
    code: Any = bob.call(9, produce_request(prefix, batch(b"v"), acks=1)).responses[0].partition_responses[0].error_code
    assert code == TOPIC_DENIED
    assert bob.call(12, fetch_request(prefix, 0)).responses[0].partitions[0].error_code == ErrorCode.NONE
