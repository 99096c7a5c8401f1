"""What cannot be written, or cannot be computed, concerns nobody else: it is removed, rests, or is put off."""

from __future__ import annotations

from typing import Any

import pytest
from logqueue_consumers.keeper.command_board import CommandBoard
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.job_entries import entry_headers, entry_key
from logqueue_consumers.keeper.machine import KeeperMachine, Kept, Place
from logqueue_consumers.keeper.put_off import FIRST_MS, LONGEST_MS, MAX_KEYS, Pauses
from logqueue_consumers.keeper.scheduler import scheduler_spec
from logqueue_consumers.writing.outgoing import Outgoing
from msgspec.structs import replace

from logqueue.jobs.control import Cancel
from logqueue.jobs.flow_records import OnFailure
from logqueue.jobs.schedules import ENDED, RUN, Mark, Override, Schedule, State, decode_state, encode
from logqueue.jobs.times import format_time
from logqueue.jobs.topics import TopicNames
from tests.flows.flow_world import World, spec

NAMES = TopicNames()
NOW = 1_790_000_000_000
RETRY = NAMES.retry("q", "g")
UNCOMPUTABLE = [{"cron": "0 3 * * *", "timezone": "Europe/Nowhere"}, {"cron": "nonsense"}, {}]


def scheduler(board: CommandBoard | None = None) -> KeeperMachine:
    place = Place(topic=NAMES.schedules, partition=0, partitions=1, count_of=lambda topic: 1)
    spec = scheduler_spec(NAMES, lambda status: b"status", board if board is not None else CommandBoard())
    return spec.make(Index.in_memory(), place)


def wait(machine: KeeperMachine, job_id: str, *, group: str = "g", due_ms: int = NOW) -> bytes:
    headers = [("ce_id", job_id.encode()), ("job-not-before", format_time(due_ms).encode())]
    key = entry_key(group=group, queue="q", job_id=job_id)
    machine.apply(Kept(key, b"{}", entry_headers(headers, job_id=job_id, key=b"acme", rank=1), 0, NOW - 60_000))
    return key


def set_schedule(machine: KeeperMachine, name: str, **rhythm: Any) -> None:
    schedule = Schedule(name=name, type="t", queue="q", **rhythm)
    machine.apply(Kept(f"schedule/{name}".encode(), encode(Override(schedule=schedule))))


def act(machine: KeeperMachine, now_ms: int, *, limit: int = 500) -> list[Outgoing]:
    """What is due, written and read back."""
    records = machine.due(now_ms, limit)
    for record in records:
        if record.topic == NAMES.schedules:
            assert record.key is not None
            machine.apply(Kept(record.key, record.value, record.headers, timestamp_ms=now_ms))
    return records


def test_pauses_grow_to_a_minute_and_begin_anew_for_what_was_well_for_a_while() -> None:
    pauses, now, found = Pauses(), 0, []
    for _ in range(9):
        found.append(pauses.until("k", now) - now)
        now += found[-1]
    assert found == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert pauses.until("k", now + LONGEST_MS + 1) == now + LONGEST_MS + 1 + FIRST_MS


def test_pauses_are_remembered_for_so_many_things() -> None:
    pauses = Pauses()
    for number in range(MAX_KEYS + 1):
        pauses.until(number, 0)
    assert 0 not in pauses and 1 in pauses and MAX_KEYS in pauses


def test_a_waiting_job_of_an_impossible_group_is_removed_and_the_others_are_sent_on() -> None:
    machine = scheduler()
    bad = wait(machine, "bad", group="no such group!")
    wait(machine, "good")
    records = act(machine, NOW)
    assert [record.topic for record in records if record.key == bad] == [NAMES.schedules]
    assert [dict(record.headers)["ce_id"] for record in records if record.topic == RETRY] == [b"good"]
    assert machine.next_due() is None


def test_a_job_that_is_put_off_lets_the_next_one_go_first_and_stays() -> None:
    machine = scheduler()
    first, second = wait(machine, "first", due_ms=NOW - 10), wait(machine, "second")
    assert first in {record.key for record in machine.due(NOW, 1)}
    machine.put_off(NOW)
    assert second in {record.key for record in act(machine, NOW, limit=1)}
    assert machine.next_due() == NOW + FIRST_MS
    assert first in {record.key for record in act(machine, NOW + FIRST_MS)}
    assert machine.next_due() is None


def test_a_command_does_not_hurry_a_job_that_was_put_off_but_is_obeyed_when_it_is_tried_again() -> None:
    board = CommandBoard()
    machine = scheduler(board)
    wait(machine, "j", due_ms=NOW + 3_600_000)
    cancel = {"j": Cancel(0, "ann", NOW)}
    board.hang(cancels=cancel, run_nows={})
    assert machine.next_due() == 0
    machine.put_off(NOW)
    board.hang(cancels={**cancel, "another": Cancel(0, "ann", NOW)}, run_nows={})
    assert machine.next_due() == NOW + FIRST_MS
    topics = {record.topic for record in act(machine, NOW + FIRST_MS)}
    assert NAMES.control in topics and RETRY not in topics


@pytest.mark.parametrize("rhythm", UNCOMPUTABLE, ids=["time zone", "cron", "neither"])
def test_a_schedule_that_cannot_be_computed_rests_until_it_is_set_again(rhythm: dict[str, str]) -> None:
    machine = scheduler()
    set_schedule(machine, "bad", **rhythm)
    set_schedule(machine, "good", every_ms=60_000)
    machine.apply(Kept(f"{RUN}bad/r1".encode(), encode(Mark(at=NOW))))
    states = {r.key: decode_state(r.value) for r in act(machine, NOW) if r.value is not None}
    assert states[b"state/bad"].next is None
    good = states[b"state/good"].next
    assert good is not None and machine.next_due() == good
    set_schedule(machine, "bad", every_ms=30_000)
    assert machine.next_due() == 0
    state = {r.key: decode_state(r.value) for r in act(machine, NOW) if r.value is not None}[b"state/bad"]
    assert isinstance(state, State) and state.next is not None


def test_a_schedule_that_is_put_off_lets_the_next_thing_go_first() -> None:
    machine = scheduler()
    set_schedule(machine, "s", every_ms=60_000)
    key = wait(machine, "j")
    assert {record.key for record in machine.due(NOW, 1)} == {b"state/s"}
    machine.put_off(NOW)
    assert key in {record.key for record in act(machine, NOW, limit=1)}
    assert machine.next_due() == NOW + FIRST_MS


def test_a_node_with_an_impossible_queue_is_cancelled_and_other_workflows_go_on() -> None:
    world = World()
    bad = replace(spec(), queue="No Queue!")
    world.submit("f1", {"bad": bad, "behind": spec({"bad": OnFailure.FAIL})})
    world.submit("f2", {"fine": spec()})
    world.settle()
    assert world.jobs == ["fine"]
    assert {name: node.state for name, node in world.nodes("f1").items()} == {"bad": "cancelled", "behind": "cancelled"}
    assert world.ends("f1") == 1


def test_a_workflow_that_is_put_off_lets_the_next_one_go_first() -> None:
    world = World()
    world.submit("f1", {"one": spec()})
    world.submit("f2", {"two": spec()})
    world.catch_up()
    while not any(record.topic == NAMES.jobs("q") for record in world.machine.due(world.now_ms, 1)):
        world.act(limit=1)
        world.catch_up()
    world.machine.put_off(world.now_ms)
    world.settle()
    assert len(world.jobs) == 1
    world.now_ms += FIRST_MS
    world.settle()
    assert sorted(world.jobs) == ["one", "two"]


def test_an_order_to_run_a_schedule_whose_key_has_no_id_is_left_alone() -> None:
    machine = scheduler()
    for key in (f"{RUN}bad", f"{ENDED}bad"):
        machine.apply(Kept(key.encode(), encode(Mark(at=NOW))))
    assert machine.next_due() is None
