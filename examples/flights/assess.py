"""What is known of one flight: distance, speed, weather at departure, delay. Pure: no job, no log, no file.

A flight can have several defects. They are looked for in this order, and the first one is the answer:

1. `NeverDeparted`: it has no departure time (cancelled).
2. `UnknownAirport`: origin or destination is not in the airports table.
3. `NoWeather`: the weather table has no row for its origin and hour. The join is on `(origin, time_hour)`; `time_hour`
   is the scheduled hour of departure in UTC, in both tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from logqueue import Permanent

if TYPE_CHECKING:
    from examples.flights.tables import Place, Tables

EARTH_RADIUS_KM = 6371.0088  # mean radius (IUGG)
ON_TIME_MINUTES = 15  # US Bureau of Transportation Statistics: less than 15 minutes late is on time
VERY_LATE_MINUTES = 60


class NeverDeparted(Permanent):
    """The flight was cancelled: there is nothing to assess, and there never will be."""


class UnknownAirport(Permanent):
    """The airports table lacks one of its airports."""


class NoWeather(Permanent):
    """The weather table lacks the hour of its departure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One row of the flights table, as far as it matters here; these are the arguments of the job.

    `date` is the day of the scheduled departure, `time_hour` its hour in UTC, `dep_time` the local clock time of the
    real departure (hhmm), `arr_delay` and `air_time` are minutes. None is the file's NA.
    """

    carrier: str
    flight: int
    date: str
    origin: str
    dest: str
    time_hour: str
    dep_time: int | None
    arr_delay: int | None
    air_time: int | None

    @property
    def id(self) -> str:
        """What no other flight has: `UA-1545-2013-01-01-EWR-IAH`."""
        return f"{self.carrier}-{self.flight}-{self.date}-{self.origin}-{self.dest}"


class Weather(NamedTuple):
    """The weather at an airport in one hour, metric; None is the file's NA."""

    celsius: float | None
    wind_kmh: float | None
    visibility_km: float | None
    rain_mm: float | None


def assess(flight: Flight, tables: Tables) -> dict[str, Any]:
    """What is known of the flight; NeverDeparted, UnknownAirport or NoWeather (see the order above)."""
    if flight.dep_time is None:
        raise NeverDeparted(f"{flight.carrier} {flight.flight} of {flight.date} never departed")
    origin, dest = _airport(flight.origin, tables), _airport(flight.dest, tables)
    weather = tables.weather.get((flight.origin, flight.time_hour))
    if weather is None:
        raise NoWeather(f"no weather of {flight.origin} at {flight.time_hour}")
    distance = great_circle_km(origin, dest)
    return {
        "distance_km": round(distance, 1),
        "speed_kmh": round(distance / flight.air_time * 60) if flight.air_time else None,
        "delay": delay_class(flight.arr_delay),
        "delay_minutes": flight.arr_delay,
        "weather": {name: None if value is None else round(value, 1) for name, value in weather._asdict().items()},
    }


def delay_class(minutes: int | None) -> str:
    """`early`, `on-time`, `late`, `very-late`; `diverted` for a flight that departed and has no arrival delay."""
    if minutes is None:
        return "diverted"
    if minutes < 0:
        return "early"
    if minutes < ON_TIME_MINUTES:
        return "on-time"
    return "late" if minutes < VERY_LATE_MINUTES else "very-late"


def great_circle_km(a: Place, b: Place) -> float:
    """The shortest way over the globe between two places (haversine formula)."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat = (lat_b - lat_a) / 2
    half_lon = math.radians(b.longitude - a.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


def whole(text: str) -> int | None:
    """The number of a CSV field; None for NA."""
    return None if text in ("NA", "") else int(text)


def _airport(code: str, tables: Tables) -> Place:
    place = tables.airports.get(code)
    if place is None:
        raise UnknownAirport(f"{code} is not in the airports table")
    return place
