"""Records that anyone may write: JSON nested too deeply, or text that is not UTF-8, is passed over, nobody ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from logqueue_api.rest.catalogue import Catalogue
from logqueue_consumers.bridges.outbox_rows import BadRow, Row, job_record, priority_of
from logqueue_consumers.bridges.queue_classes import QueueClasses
from logqueue_consumers.control.notes import read_details
from logqueue_consumers.heartbeats.roster import Roster
from logqueue_consumers.keeper.cron_schedules import CronSchedules
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import Kept, Place
from logqueue_consumers.membership.sticky_assignor import StickyAssignor
from logqueue_consumers.replaying.recorded import read_recorded
from logqueue_consumers.uniqueness.gate import ShardPlaces
from logqueue_consumers.view.flows import apply_flows
from logqueue_consumers.wills import will
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, JobStatus, State, StatusCodec

from logqueue.jobs import case_file
from logqueue.jobs.control import ControlState
from logqueue.jobs.flow_records import EVENT, FLOW, NODE, SUBMIT, key_of
from logqueue.jobs.headers import DETAILS
from logqueue.jobs.schedule_book import ScheduleBook
from logqueue.jobs.schedules import RUN
from logqueue.jobs.settings import load_settings
from logqueue.jobs.topics import TopicNames
from tests.flows.flow_world import World
from tests.loops import in_loop

DEEP = b"[" * 5_000 + b"]" * 5_000
NAMES = TopicNames()


def catalogue(value: bytes) -> bool:
    return not Catalogue({"definition/a": value}).jobs


def roster(value: bytes) -> bool:
    known = Roster()
    known.apply(b"host:1", value)
    return known.unreadable == 1


def schedules(value: bytes) -> bool:
    return not ScheduleBook.of({"schedule/a": value, "app/a": value, "pause/a": value, "state/a": value}).overrides


def keeper(value: bytes) -> bool:
    place = Place(topic=NAMES.schedules, partition=0, partitions=1, count_of=lambda topic: 1)
    machine = CronSchedules(Index.in_memory(), place, names=NAMES)
    machine.apply(Kept(b"schedule/a", value, offset=0, timestamp_ms=1))
    machine.apply(Kept(RUN.encode() + b"a/b", value, offset=1, timestamp_ms=1))
    return machine.next_due() is None


def view_of_flows(value: bytes) -> bool:
    apply_flows(sqlite3.connect(":memory:"), [(key_of(FLOW, "f"), value), (key_of(NODE, "f", "n"), value)])
    return True


def flow_machine(value: bytes) -> bool:
    world = World()
    for key in (key_of(FLOW, "f"), key_of(NODE, "f", "n"), key_of(SUBMIT, "g"), key_of(EVENT, "f", "n")):
        world.append(key, value)
    world.settle()
    return not world.jobs


def places(value: bytes) -> bool:
    shard = ShardPlaces()
    shard.load([("place", value)])
    return shard.is_loaded and len(shard.index) == 0


def control(value: bytes) -> bool:
    state = ControlState()
    state.apply(b"kill/x", value)
    return not dict(state.under("kill/"))


def details(value: bytes) -> bool:
    return read_details([(DETAILS, value)]) is None


def classes(value: bytes) -> bool:
    return not QueueClasses.of([value]).by_queue


def last_will(value: bytes) -> bool:
    return will.decode(value + will.END) is None


def case(value: bytes) -> bool:
    with pytest.raises(case_file.InvalidCase, match="line 1"):
        list(case_file.read_lines([value], name="cases"))
    return True


def assignor(value: bytes) -> bool:
    leader = StickyAssignor(str)
    member = SimpleNamespace(subscription=["jobs.q"], user_data=value)
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0, 1})
    return list(leader.assign(cluster, {"m": member})) == ["m"]


READERS: list[Callable[[bytes], bool]] = [
    catalogue,
    roster,
    schedules,
    keeper,
    view_of_flows,
    flow_machine,
    places,
    control,
    details,
    classes,
    last_will,
    case,
    assignor,
]


@pytest.mark.parametrize("passes_over", READERS)
def test_a_value_that_is_nested_too_deeply_is_passed_over(passes_over: Callable[[bytes], bool]) -> None:
    names = (b"zz", b"args_schema", b"schedule")  # of what holds any value, or is not known
    assert passes_over(b"{" + b",".join(b'"%s":{"arguments":%s}' % (name, DEEP) for name in names) + b"}")
    assert passes_over(DEEP)


@pytest.mark.parametrize("passes_over", READERS)
def test_a_value_that_is_not_utf_8_is_passed_over(passes_over: Callable[[bytes], bool]) -> None:
    names = (b"app", b"worker", b"name", b"holder", b"queue", b"by", b"type", b"state", b"format", b"id", b"job")
    assert passes_over(b"{" + b",".join(b'"%s":"\xff"' % name for name in names) + b"}")
    assert passes_over(b'[["\xff",[0]]]')


def row(*, args: str = "{}", headers: str | None = None) -> Row:
    return Row(position=1, id="a", tenant="t", type="x", queue="q", args=args, headers=headers, created_ms=1)


def test_a_row_whose_json_is_nested_too_deeply_is_a_bad_row() -> None:
    deep = '{"job-priority":' + DEEP.decode() + "}"
    for bad in (row(args=deep), row(headers=deep), row(headers='{"zz":' + DEEP.decode() + "}")):
        with pytest.raises(BadRow):
            job_record(bad, NAMES, QueueClasses(), max_bytes=1_000_000)
        assert priority_of(bad) is None


class StatusTopic:
    """A reader of one partition with these statuses, in the place of aiokafka's."""

    def __init__(self, values: list[bytes]) -> None:
        self._values = values
        self._position = 0

    def assign(self, places: list[TopicPartition]) -> None:
        (self._place,) = places

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {self._place: len(self._values)}

    async def seek_to_beginning(self, *places: TopicPartition) -> None:
        self._position = 0

    async def position(self, place: TopicPartition) -> int:
        return self._position

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[SimpleNamespace]]:
        self._position = len(self._values)
        return {self._place: [SimpleNamespace(value=value) for value in self._values]}


@in_loop
async def test_recorded_ends_are_read_whatever_their_details_are(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = StatusCodec(content_id(SCHEMA))
    details = {"deep": DEEP, "text": b"details", "bytes": b'"\xff"', "number": b"5", "kept": b'{"a":1}'}
    ended = [
        JobStatus(
            id=id_,
            queue="q",
            tenant="t",
            group="g",
            state=State.DEAD,
            at=1,
            topic="t",
            partition=0,
            offset=0,
            details=told,
        )
        for id_, told in details.items()
    ]

    async def started(*_: object) -> StatusTopic:
        return StatusTopic([codec.encode(status) for status in ended])

    async def stopped(*_: object) -> None:
        """Nothing is open."""

    monkeypatch.setattr("logqueue_consumers.replaying.recorded.start_client", started)
    monkeypatch.setattr("logqueue_consumers.replaying.recorded.stop_client", stopped)
    found = await read_recorded(load_settings(environ={}), codec, partitions=1, wants=lambda status: True)
    assert {id_: dict(recorded.details) for id_, recorded in found.items()} == {
        **{id_: {} for id_ in details},
        "kept": {"a": 1},
    }
