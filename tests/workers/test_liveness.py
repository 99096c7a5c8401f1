"""Who is lost, which job is stuck, and when a worker that lives does not get on. Values only."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_consumers.heartbeats import roster as rosters
from logqueue_consumers.heartbeats.beat import Heartbeat, decode, encode
from logqueue_consumers.heartbeats.liveness import Liveness, Sight
from logqueue_consumers.heartbeats.roster import FORGOTTEN_MS, LEASE_MS, LOST, STUCK, STUCK_MARGIN_MS, Roster

NOW_MS = 1_700_000_000_000
PATIENCE_S = 60.0


def beat(name: str = "h:1", *, at: int = NOW_MS, started_at: int = NOW_MS - 100_000, **more: object) -> Heartbeat:
    return Heartbeat(
        worker=name, at=at, started_at=started_at, app="a", group="g", host="h", pid=1, interval_s=3.0, **more
    )  # type: ignore[arg-type]


def roster(*beats: Heartbeat) -> Roster:
    found = Roster()
    for one in beats:
        found.apply(one.worker.encode(), encode(one))
    return found


def test_a_heartbeat_survives_its_encoding_and_unknown_fields_are_passed_over() -> None:
    one = beat(partitions={"jobs.q": [0, 3]}, queues=("q",), problem="why")
    assert decode(encode(one)) == one
    wider = msgspec.json.decode(encode(one)) | {"of_a_later_version": 1}
    assert decode(msgspec.json.encode(wider)) == one


def test_a_worker_lives_for_five_intervals_after_its_last_word() -> None:
    assert beat(at=NOW_MS - 15_000).is_alive(NOW_MS)
    assert not beat(at=NOW_MS - 15_001).is_alive(NOW_MS)


def condition(
    found: Roster, *, worker: str | None = "h:1", started_ms: int = NOW_MS, timeout_s: float = 60.0
) -> object:
    return found.condition(worker=worker, started_us=started_ms * 1000, timeout_s=timeout_s, now_ms=NOW_MS)


def test_a_running_job_is_lost_with_its_worker() -> None:
    assert condition(roster(beat())) is None
    assert condition(roster(beat(at=NOW_MS - 60_000))) == LOST
    assert condition(roster(), started_ms=NOW_MS - LEASE_MS) is None, "its first heartbeat may be on its way"
    assert condition(roster(), started_ms=NOW_MS - LEASE_MS - 1) == LOST
    assert condition(roster(beat()), worker=None) == LOST


def test_a_job_of_an_earlier_process_under_the_same_name_is_lost() -> None:
    assert condition(roster(beat()), started_ms=NOW_MS - 100_001) == LOST


def test_a_job_is_stuck_when_it_runs_past_its_time_in_a_living_worker() -> None:
    late = NOW_MS - 60_000 - STUCK_MARGIN_MS
    assert condition(roster(beat()), started_ms=late) is None
    assert condition(roster(beat()), started_ms=late - 1) == STUCK
    assert roster(beat()).condition(worker="h:1", started_us=0, timeout_s=None, now_ms=NOW_MS) == LOST


def test_a_tombstone_takes_a_worker_off_the_list_and_silence_does_so_after_an_hour() -> None:
    found = roster(beat("h:1"), beat("h:2", at=NOW_MS - FORGOTTEN_MS - 1))
    assert [one.worker for one in found.workers(NOW_MS)] == ["h:1"]
    found.apply(b"h:1", None)
    assert found.workers(NOW_MS) == []


def test_the_earlier_lives_of_a_worker_that_is_back_are_not_listed() -> None:
    lost = NOW_MS - 60_000
    found = roster(
        beat("h:1", at=lost, instance_id="one"),
        beat("h:2", at=lost, instance_id="two"),
        beat("h:3", at=lost),
        beat("h:4", instance_id="one"),
        beat("h:5"),
    )
    assert {one.worker for one in found.workers(NOW_MS)} == {"h:2", "h:3", "h:4", "h:5"}


def test_what_is_no_heartbeat_is_counted_and_passed_over() -> None:
    found = roster(beat())
    found.apply(b"h:2", b"no json")
    found.apply(None, b"{}")
    assert (found.unreadable, len(found.workers(NOW_MS))) == (2, 1)


def test_the_roster_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "MAX_WORKERS", 2)
    found = roster(beat("h:1"), beat("h:2"), beat("h:1"), beat("h:3"))
    assert {one.worker for one in found.workers(NOW_MS)} == {"h:1", "h:3"}


def sight(**more: object) -> Sight:
    return Sight(**({"steps": 1, "available": 0, "within_time": 0, "is_member": True} | more))  # type: ignore[arg-type]


def judged(*sights: Sight, every_s: float = 10.0) -> list[str | None]:
    liveness = Liveness(patience_s=PATIENCE_S, now_s=0.0)
    return [liveness.look(one, number * every_s) for number, one in enumerate(sights)]


def test_a_worker_that_does_not_take_what_waits_is_stuck_after_its_patience() -> None:
    found = judged(*[sight(available=7)] * 8)
    assert found[:6] == [None] * 6
    assert found[6] == "no progress for 60 s: 7 records wait"


@pytest.mark.parametrize(
    "waiting",
    [
        sight(),
        sight(available=7, within_time=1),
        sight(available=7, log_error="away"),
        sight(is_member=False, within_time=1),
    ],
    ids=["idle", "a job runs within its time", "the log is away", "busy while the group forms"],
)
def test_waiting_is_not_being_stuck(waiting: Sight) -> None:
    assert judged(*[waiting] * 100) == [None] * 100


def test_a_worker_that_its_group_does_not_know_is_stuck() -> None:
    assert judged(*[sight(is_member=False)] * 8)[-1] == "no progress for 70 s: the group does not count this worker in"


def test_threads_that_nobody_gets_back_are_a_standstill_whatever_waits() -> None:
    assert "hold all 4 threads" in str(judged(*[sight(lost_threads=4, within_time=4)] * 8)[-1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 1), st.booleans()), max_size=60))
def test_a_worker_is_stuck_exactly_when_nothing_excused_it_for_its_patience(
    history: list[tuple[bool, int, int, bool]],
) -> None:
    """Against a plain model: the time since the last look that excuses it."""
    liveness = Liveness(patience_s=PATIENCE_S, now_s=0.0)
    steps, excused_at_s = 0, 0.0
    for number, (moves, available, within_time, is_member) in enumerate(history):
        now_s, steps = number * 10.0, steps + moves
        is_excused = moves or number == 0 or within_time or (is_member and not available)
        excused_at_s = now_s if is_excused else excused_at_s
        seen = sight(steps=steps, available=available, within_time=within_time, is_member=is_member)
        assert (liveness.look(seen, now_s) is not None) == (now_s - excused_at_s >= PATIENCE_S)
