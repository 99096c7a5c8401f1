"""The flights example: `logqueue up examples.flights.app:app`. One job per flight, one tenant per carrier."""

from __future__ import annotations

from typing import Any

from examples.flights.assess import Flight, assess
from examples.flights.tables import tables
from logqueue import App, Retry

app = App("flights")
app.queue("flights", default_type="flight.assess")


@app.job("flight.assess", queue="flights", retry=Retry(attempts=3, first="1s", cap="1m"), timeout="30s")
async def assess_flight(
    *,
    carrier: str,
    flight: int,
    date: str,
    origin: str,
    dest: str,
    time_hour: str,
    dep_time: int | None = None,
    arr_delay: int | None = None,
    air_time: int | None = None,
) -> dict[str, Any]:
    """Assess one flight; its defects are permanent errors of their own (see `assess.py`)."""
    return assess(
        Flight(
            carrier=carrier,
            flight=flight,
            date=date,
            origin=origin,
            dest=dest,
            time_hour=time_hour,
            dep_time=dep_time,
            arr_delay=arr_delay,
            air_time=air_time,
        ),
        tables(),
    )
