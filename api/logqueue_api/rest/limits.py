"""Bounds of the HTTP API, and its names: environment `LOGQUEUE_API_*` over the `[api]` table of the settings file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from logqueue.jobs.durations import InvalidDuration, parse_duration
from logqueue.jobs.errors import InvalidSetting

ENVIRONMENT_PREFIX: Final = "LOGQUEUE_API_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """What one request, and all of them together, may take. Sizes in bytes, times in seconds.

    `hosts` are names beside `localhost` that a Host header may have where the API listens on a loopback address: those
    that a proxy in front passes on. `*` is any. A list in the file; in the environment names with commas.
    """

    max_body_bytes: int = 1_048_576  # of POST /v1/jobs; the log has its own limit of a record
    max_batch_body_bytes: int = 16 * 1_048_576
    max_batch_jobs: int = 10_000
    max_page: int = 1_000
    default_page: int = 50
    max_wait_s: float = 60.0  # of ?wait=
    position_wait_s: float = 5.0  # for ?min_position= without ?wait=
    max_waiting: int = 10_000  # requests that wait for the view at one time
    max_streams: int = 200  # open event streams
    max_queries: int = 64  # lists and counts being read or waiting to be
    max_records: int = 1_000  # of GET /v1/topics/{topic}/records
    max_records_bytes: int = 4 * 1_048_576
    log_timeout_s: float = 10.0  # for the log to answer what is not a job
    ready_lag: int = 10_000  # records that the view may lag behind and still be ready
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "hosts" and getattr(self, field.name) <= 0:
                raise InvalidSetting(f"{variable_name(field.name)} must be more than 0")
        if self.default_page > self.max_page:
            raise InvalidSetting(f"{variable_name('default_page')} must not be more than {variable_name('max_page')}")

    @classmethod
    def load(cls, file: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Self:
        """Limits of the file's `[api]` table under those of the environment; InvalidSetting names a wrong one."""
        env = os.environ if environ is None else environ
        kinds = {field.name: str(field.type) for field in fields(cls)}
        names = {name.removesuffix("_s"): name for name in kinds}
        values: dict[str, Any] = {}
        for key, value in (file or {}).items():
            if key not in names:
                raise InvalidSetting(f"Settings file: [api] {key!r} is unknown; known are {', '.join(sorted(names))}")
            values[names[key]] = _convert(f"[api] {key}", kinds[names[key]], value)
        for name, kind in kinds.items():
            text = env.get(variable_name(name))
            if text is not None:
                values[name] = _convert(variable_name(name), kind, text)
        return cls(**values)


def variable_name(name: str) -> str:
    """The environment variable of a limit; a time's unit is not part of it."""
    return ENVIRONMENT_PREFIX + name.removesuffix("_s").upper()


def _convert(where: str, kind: str, value: Any) -> float | tuple[str, ...]:
    if kind.startswith("tuple"):
        return _names(where, value)
    try:
        if kind == "int":
            return int(value)
        try:
            return float(value)
        except ValueError:
            return parse_duration(value)
    except (ValueError, TypeError, InvalidDuration) as error:
        raise InvalidSetting(f"{where}: {error}") from None


def _names(where: str, value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidSetting(f"{where}: {value!r} is no list of names")
    stripped = tuple(name.strip() for name in names)
    wrong = next((name for name in stripped if "/" in name), None)
    if wrong is not None:
        raise InvalidSetting(f"{where}: {wrong!r} is no host's name, such as logqueue.example.com")
    return tuple(name for name in stripped if name)
