"""The argument parser and the kinds of values that options take. Knows no command."""

from __future__ import annotations

import argparse
import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from logqueue_api.cli.exits import UsageError

DEFAULT_DATA_DIR = "logqueue-data"
DEFAULT_KAFKA_PORT = 9092
DEFAULT_HTTP_PORT = 8080
LARGEST_PORT = 65_535


class Parser(argparse.ArgumentParser):
    """argparse, except that a mistake is a UsageError and the help shows defaults where they are told."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)  # type: ignore[arg-type]

    def add_subparsers(self, **settings: Any) -> Any:
        return super().add_subparsers(parser_class=_Subcommand, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help shows what it takes")


class _Subcommand(Parser):
    """Tells itself of an option that it does not know, as its own help is the one that shows what it takes."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: one JSON document (or one per line where output is a stream) on standard output."""
    parser.add_argument("--json", action="store_true", help="print JSON; errors are JSON on standard error")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="settings file (LOGQUEUE_CONFIG, logqueue.toml)")


def add_stack(parser: argparse.ArgumentParser) -> None:
    """How a command finds the running stack, and --json."""
    add_json(parser)
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="the log (default: LOGQUEUE_BOOTSTRAP, run.json)")
    parser.add_argument("--api", metavar="URL", help="the HTTP API (default: LOGQUEUE_API, run.json)")
    add_data_dir(parser)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="D",
        default=Path(os.environ.get("LOGQUEUE_DATA_DIR") or DEFAULT_DATA_DIR),
        help=f"data folder (default: LOGQUEUE_DATA_DIR, {DEFAULT_DATA_DIR})",
    )


def port(text: str) -> int:
    """A TCP port; 0 means any free one."""
    if not text.isdecimal() or int(text) > LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to {LARGEST_PORT}; 0 takes any free one)")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def processes(text: str) -> int:
    """A number of processes; `auto` is one for each processor that this process may use."""
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes (try 4 or auto)")
    if text != "auto":
        return count(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_range(text: str) -> tuple[int, int]:
    """A number of processes, from least to most: `3`, `1..4`, or `auto` (one for each processor at most)."""
    if text == "auto":
        return 1, processes(text)
    least, separator, most = text.partition("..")
    try:
        found = (processes(least), processes(most)) if separator else (count(text), count(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of processes (try 4, 1..4, 1..auto or auto; at least 1)"
        ) from None
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins (try 1..4)")
    return found


def seconds(text: str) -> float:
    """A duration as seconds: a bare number, or parts with units: 250ms, 10s, 1h30m, 2d."""
    from logqueue.jobs.durations import InvalidDuration, parse_duration

    try:
        return float(text) if text.replace(".", "", 1).isdecimal() else parse_duration(text)
    except InvalidDuration:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration (try 250ms, 10s, 5m, 1h30m)") from None


def moment(text: str, *, now: datetime | None = None) -> datetime:
    """A point in time: ISO 8601 (UTC if no zone is given), or a duration ago (`15m`, `-2h`)."""
    from logqueue.jobs.durations import InvalidDuration, parse_duration

    try:
        return (now or datetime.now(UTC)) - timedelta(seconds=parse_duration(text.removeprefix("-")))
    except InvalidDuration:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time (try 2026-08-01T12:00:00Z, 2026-08-01, or 15m for fifteen minutes ago)"
        ) from None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def position(text: str) -> int | datetime:
    """A place in a partition: an offset (a bare whole number) or a moment."""
    try:
        return int(text) if text.isdecimal() else moment(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no offset and no time (try 1000, 2026-08-01T12:00:00Z, or 15m for fifteen minutes ago)"
        ) from None


def number(text: str) -> float:
    """A number that is one: no `nan`, no `inf`."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return found


def states(text: str) -> str:
    """States with commas, at least one: without one a list or a change would be of jobs in every state."""
    found = [name for part in text.split(",") if (name := part.strip())]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of states (try dead or dead,expired)")
    return ",".join(found)


def partition_list(text: str) -> tuple[int, ...]:
    """Partitions as `0,3,5`."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of partitions (try 0 or 0,3)")
    return tuple(int(part) for part in parts)
