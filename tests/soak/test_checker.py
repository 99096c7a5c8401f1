"""The history checker finds every anomaly that is put into a good history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.checker import Checker, report
from tests.soak.history import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    Ack,
    Commit,
    CommitRead,
    Event,
    FinalLog,
    Poll,
    Recorder,
    Send,
    TransactionEnd,
    read_history,
)


def good() -> list[Event]:
    """A producer and two transactions, the second one aborted; a group reads, commits and looks it up."""

    def send(number: int, partition: int, transaction: str | None = None) -> Send:
        client = "plain" if transaction is None else "tx"
        return Send(
            at=number, client=client, partition=partition, value=f"v{number}", number=number, transaction=transaction
        )

    sends = [send(1, 0), send(2, 0), send(3, 0, "t1"), send(4, 1, "t1"), send(5, 0, "t2"), send(6, 0)]
    places = {"v1": (0, 0), "v2": (0, 1), "v3": (0, 2), "v4": (1, 0), "v5": (0, 4), "v6": (0, 6)}
    acks = [Ack(at=9, client="x", value=v, partition=p, offset=o) for v, (p, o) in places.items()]
    ends = [
        TransactionEnd(at=10, client="tx", transaction="t1", committed=True),
        TransactionEnd(at=11, client="tx", transaction="t2", committed=False),
    ]
    shown = ((0, "v1"), (1, "v2"), (2, "v3"), (6, "v6"))
    logs = [
        FinalLog(partition=0, isolation=READ_COMMITTED, records=shown),
        FinalLog(partition=1, isolation=READ_COMMITTED, records=((0, "v4"),)),
        FinalLog(partition=0, isolation=READ_UNCOMMITTED, records=(*shown[:3], (4, "v5"), shown[3])),
        FinalLog(partition=1, isolation=READ_UNCOMMITTED, records=((0, "v4"),)),
    ]

    def poll(at: float, *records: tuple[int, int, str]) -> Poll:
        return Poll(at=at, client="c", group="g", assignment=1, isolation=READ_COMMITTED, records=records)

    polls = [poll(20, (0, 0, "v1"), (0, 1, "v2"), (1, 0, "v4")), poll(21, (0, 2, "v3"), (0, 6, "v6"))]
    commits = [
        Commit(number=1, started=20, at=20.5, client="c", group="g", offsets=((0, 2),), ok=True),
        Commit(number=2, started=21, at=21.5, client="c", group="g", offsets=((0, 7),), ok=True),
    ]
    reads = [
        CommitRead(started=19, at=19.5, client="c", group="g", offsets=((0, -1),)),
        CommitRead(started=22, at=22.5, client="c", group="g", offsets=((0, 7),)),
    ]
    return [*sends, *acks, *ends, *polls, *commits, *reads, *logs]


def test_a_good_history_is_found_good() -> None:
    assert Checker(good()).anomalies() == []


def changed(history: list[Event], kind: type[Event], number: int, **changes: object) -> list[Event]:
    """The history with other values in the `number`-th event of a kind."""
    wanted = [event for event in history if isinstance(event, kind)][number]
    return [replace(event, **changes) if event is wanted else event for event in history]


def without(history: list[Event], kind: type[Event], number: int) -> list[Event]:
    wanted = [event for event in history if isinstance(event, kind)][number]
    return [event for event in history if event is not wanted]


def in_logs(history: list[Event], change: Callable[[tuple[int, str]], list[tuple[int, str]]]) -> list[Event]:
    """The history with other records in partition 0 of the final logs."""
    return [
        replace(event, records=tuple(new for record in event.records for new in change(record)))
        if isinstance(event, FinalLog) and event.partition == 0
        else event
        for event in history
    ]


DOCTORED: dict[str, list[Event]] = {
    "lost": in_logs(good(), lambda record: [] if record[1] == "v6" else [record]),
    "duplicate": in_logs(good(), lambda record: [record, (7, "v6")] if record[1] == "v6" else [record]),
    "reordered": in_logs(good(), lambda record: [(1 - record[0], record[1]) if record[0] < 2 else record][:1]),
    "phantom": in_logs(good(), lambda record: [record, (9, "nobody")] if record[1] == "v6" else [record]),
    "inconsistent offset": changed(good(), Poll, 1, records=((0, 2, "v2"), (0, 6, "v6"))),
    "torn transaction": changed(good(), FinalLog, 1, records=()),
    "aborted read": changed(good(), Poll, 1, records=((0, 2, "v3"), (0, 4, "v5"), (0, 6, "v6"))),
    "non-monotonic poll": changed(good(), Poll, 1, records=((0, 1, "v2"), (0, 2, "v3"), (0, 6, "v6"))),
    "skipped": changed(good(), Poll, 1, records=((0, 6, "v6"),)),
    "unread": without(good(), Poll, 1),
    "commit went back": changed(good(), CommitRead, 1, offsets=((0, 2),)),
}


@pytest.mark.parametrize("kind", DOCTORED)
def test_every_anomaly_is_found(kind: str) -> None:
    assert kind in {anomaly.kind for anomaly in Checker(DOCTORED[kind]).anomalies()}


def test_a_commit_that_vanished_is_found() -> None:
    history = changed(good(), CommitRead, 1, offsets=((0, -1),))
    assert {anomaly.kind for anomaly in Checker(history).anomalies()} == {"commit went back"}


@pytest.mark.parametrize("outcome", [True, False])
def test_a_transaction_nobody_knows_the_end_of_is_whole_or_not_there(outcome: bool) -> None:
    history = changed(good(), TransactionEnd, 0, committed=None)
    assert Checker(history).anomalies() == []
    torn = changed(history, FinalLog, 1, records=())
    assert "torn transaction" in {anomaly.kind for anomaly in Checker(torn).anomalies()}
    if not outcome:
        assert "torn transaction" in report(Checker(torn).anomalies())


def test_a_history_comes_back_from_its_file_but_for_a_half_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "history")
    for event in good():
        recorder.add(event)
    recorder.close()
    with (tmp_path / "history").open("ab") as file:
        file.write(b'{"kind": "Send", "at": 1')
    assert list(read_history([tmp_path / "history"])) == good()
