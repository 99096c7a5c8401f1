"""The flights example: `logqueue up examples.flights.app:app`. One job per flight, one tenant per carrier.

The `examples` of the arguments are for people: OpenAPI-style tools and the lines that `logqueue up` offers to copy.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from examples.flights.assess import Flight, assess
from examples.flights.tables import tables
from logqueue import App, Retry

app = App("flights")
app.queue("flights", default_type="flight.assess")


@app.job("flight.assess", queue="flights", retry=Retry(attempts=3, first="1s", cap="1m"), timeout="30s")
async def assess_flight(
    *,
    carrier: Annotated[str, Meta(examples=["UA"])],
    flight: Annotated[int, Meta(examples=[1545])],
    date: Annotated[str, Meta(examples=["2013-01-01"])],
    origin: Annotated[str, Meta(examples=["EWR"])],
    dest: Annotated[str, Meta(examples=["IAH"])],
    time_hour: Annotated[str, Meta(examples=["2013-01-01T10:00:00Z"])],
    dep_time: Annotated[int | None, Meta(examples=[517])] = None,
    arr_delay: Annotated[int | None, Meta(examples=[11])] = None,
    air_time: Annotated[int | None, Meta(examples=[227])] = None,
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
