"""What handlers say and raise is the user's own: whatever it is, it ends one job, and the worker goes on."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.control.notes import encode_details, with_line, with_progress
from logqueue_consumers.engine import JobEngine
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.processes.carried_errors import pack
from logqueue_consumers.processes.frames import frame
from logqueue_consumers.running.context_services import ServiceDesk
from logqueue_consumers.status.records import StatusRecords
from logqueue_consumers.writing.at_least_once import AtLeastOnce
from logqueue_consumers.writing.outbox import Outbox
from logqueue_schemas.job_status import JobStatus

from logqueue import App, Retry
from logqueue.clock import SystemClock
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import ErrorClass, JobCancelled, Snooze, classify
from logqueue.jobs.http_errors import retry_after_s
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicKind
from tests.consumers.test_coming_back import Record
from tests.consumers.test_outbox import CODEC, NAMES, FakeLog
from tests.loops import in_loop

ODD = "no file \udcff"
"""As `os.fsdecode` gives the name of a file that is no UTF-8."""


class Mute(Exception):
    """Says a number where a text belongs."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Thorny(Exception):
    """Raises when it is asked for what HTTP clients and errors of ours have."""

    @property
    def error_class(self) -> object:
        raise RuntimeError("no class")

    @property
    def response(self) -> object:
        raise RuntimeError("no response")


class Endless(Snooze):
    """Does not say for how long."""

    def __init__(self) -> None:
        Exception.__init__(self, "later")


app = App("shop")
app.queue("q", order="none")


@app.job("odd", queue="q", retry=Retry(attempts=1))
async def odd(ctx: JobContext, *, how: str) -> None:
    match how:
        case "progress":
            ctx.progress(Fraction(1, 2), 1, ODD)  # type: ignore[arg-type]
        case "log":
            ctx.log(ODD)
        case "cancelled":
            raise JobCancelled(ODD)
        case "cancelled mute":
            raise type("Both", (Mute, JobCancelled), {})
        case "mute":
            raise Mute
        case "thorny":
            raise Thorny("thorny")
        case "endless":
            raise Endless
        case "half a pair":
            raise FileNotFoundError(ODD)


@app.job("calm", queue="q")
async def calm() -> None: ...


def statuses(log: FakeLog) -> dict[str, JobStatus]:
    """The last status of each job."""
    records = [record for records in log.sends for record in records if record.topic == NAMES.status]
    return {status.id: status for status in (CODEC.decode(record.value or b"") for record in records)}


async def outcome_of(how: str) -> JobStatus:
    """What an odd job comes to, before a calm one in a worker that must live to end both."""
    log, limits = FakeLog(), WorkerLimits()
    records = StatusRecords(CODEC, log, group="shop", is_shadow=False, status_topic=NAMES.status, worker="w:1")
    engine = JobEngine(
        reader=JobReader(app, "shop"),
        rules=LiveRules(NAMES, "shop"),
        limits=limits,
        clock=SystemClock(),
        random=Random(0),
        group="shop",
        refresh_schemas=lambda: asyncio.sleep(0),
        make_outbox=lambda done: Outbox(
            AtLeastOnce(log, records, log),  # type: ignore[arg-type]
            limits=limits,
            busy_linger_s=0.01,
            on_durable=done,
        ),
    )
    engine.serve(ServiceDesk(engine.outbox, SystemClock(), steps=None, settings=Settings()).of)
    partition = OwnedPartition("jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="none", window=PartitionWindow(0))
    engine.open(partition)
    value = b'{"how": "%s"}' % how.encode()
    engine.deliver(partition, [Record(0, value, headers=(("ce_type", b"odd"), ("ce_id", b"odd")))])
    running = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(10):
            while not partition.window.commit_offset() and not running.done():
                await asyncio.sleep(0)
            engine.deliver(partition, [Record(1, headers=(("ce_type", b"calm"), ("ce_id", b"calm")))])
            while len(statuses(log)) < 2 and not running.done():
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled(), f"the worker ended: {running.exception()!r}"
    assert str(statuses(log)["calm"].state) == "succeeded"
    return statuses(log)["odd"]


@pytest.mark.parametrize(
    ("how", "state", "told"),
    [
        ("progress", "succeeded", None),
        ("log", "succeeded", None),
        ("cancelled", "cancelled", None),
        ("cancelled mute", "cancelled", None),
        ("mute", "dead", ("Mute", "Mute")),
        ("thorny", "dead", ("Thorny", "thorny")),
        ("endless", "dead", ("RuntimeError", "Endless")),
        ("half a pair", "dead", ("FileNotFoundError", "no file ?")),
    ],
)
@in_loop
async def test_whatever_a_handler_says_or_raises_ends_its_job_and_not_the_worker(
    how: str, state: str, told: tuple[str, str] | None
) -> None:
    status = await outcome_of(how)
    assert (str(status.state), status.error and (status.error.type, status.error.message)) == (state, told)


texts = st.text(st.characters(codec=None, categories=("L", "N", "P", "S", "Z", "C")))
"""With category Cs: halves of pairs."""


@given(texts, st.fractions() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
def test_lines_and_progress_of_any_text_and_number_have_a_json_form(text: str, number: Any) -> None:
    details = with_line(None, text, attempt=1, at_ms=1)
    encode_details(with_progress(details, done=number, total=number, message=text, at_ms=2))


def test_whole_numbers_stay_whole() -> None:
    shown = with_progress(None, done=True, total=10**20, message=None, at_ms=0)["progress"]
    assert encode_details(shown) == b'{"done":1,"total":100000000000000000000,"at":0}'


@given(texts)
def test_an_error_of_any_text_goes_from_a_process_to_its_worker(text: str) -> None:
    frame(pack(ValueError(text)))


def test_an_exception_whose_properties_raise_is_like_any_other() -> None:
    assert classify(Thorny()) is ErrorClass.TRANSIENT


def test_headers_that_cannot_be_asked_say_nothing() -> None:
    class Limited(Exception):
        status = 429

        class headers:  # noqa: N801 - as a client has them
            @staticmethod
            def get() -> None: ...

    assert retry_after_s(Limited(), now_s=0.0) is None
