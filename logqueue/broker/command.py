"""The command line of the broker process: options, ready line, signals, exit codes. Knows no request.

Options are read by hand: argparse would be a tenth of the start-up time for five options.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from logqueue.broker.broker import Broker
from logqueue.broker.listener import format_address
from logqueue.config import BrokerConfig, InvalidConfig, LogConfig
from logqueue.errors import LogqueueError

USAGE = """\
usage: python -m logqueue.broker [--data-dir DIR] [--kafka-port PORT] [--host HOST] [--override NAME=VALUE ...]
                                 [--log-level LEVEL]

  --data-dir DIR          folder that holds everything (default: logqueue-data)
  --kafka-port PORT       port to listen on, 0 for any free one (default: 9092)
  --host HOST             address to listen on (default: 127.0.0.1)
  --override NAME=VALUE   a broker or log.* setting under its Kafka name; may be repeated
  --log-level LEVEL       debug, info, warning or error (default: warning)
"""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

_LEVELS = ("debug", "info", "warning", "error")


class UsageError(LogqueueError):
    """The command line cannot be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    config: BrokerConfig
    log_defaults: LogConfig
    log_level: str


@dataclass(slots=True)
class _Words:
    """The command line as it was typed."""

    data_dir: str | None = None
    kafka_port: str | None = None
    host: str | None = None
    log_level: str = "warning"
    override: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Raises UsageError or InvalidConfig."""
    words = _words(arguments)
    properties: dict[str, str] = {}
    for override in words.override:
        name, equals, value = override.partition("=")
        if not equals or not name:
            raise UsageError(f"--override wants NAME=VALUE, not {override!r}")
        properties[name] = value
    named = {"log.dir": words.data_dir, "port": words.kafka_port, "host.name": words.host}
    properties |= {name: value for name, value in named.items() if value is not None}
    if words.log_level not in _LEVELS:
        raise UsageError(f"--log-level is one of {', '.join(_LEVELS)}, not {words.log_level!r}")
    config, log_defaults = configure(properties)
    return Options(config=config, log_defaults=log_defaults, log_level=words.log_level)


def configure(properties: dict[str, str]) -> tuple[BrokerConfig, LogConfig]:
    """Split broker properties from the log defaults (`log.retention.ms` and its like). Raises InvalidConfig."""
    topic_names = {p.synonym: p.name for p in LogConfig.properties().values() if p.synonym is not None}
    broker_names = BrokerConfig.properties()
    for name in properties:
        if name not in broker_names and name not in topic_names:
            raise InvalidConfig(f"Unknown configuration {name}")
    config = BrokerConfig.from_properties({k: v for k, v in properties.items() if k in broker_names})
    defaults = LogConfig.from_properties({topic_names[k]: v for k, v in properties.items() if k in topic_names})
    return config, replace(defaults, max_message_bytes=config.message_max_bytes)


def _words(arguments: Sequence[str]) -> _Words:
    words = _Words()
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in _Words.__slots__:
            raise UsageError(f"unknown option {option}")
        if not equals:
            if not rest:
                raise UsageError(f"{option} wants a value")
            value = rest.pop(0)
        if name == "override":
            words.override.append(value)
        else:
            setattr(words, name, value)
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the broker until SIGTERM or SIGINT; answers the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(USAGE)
        return EXIT_OK
    try:
        options = parse(arguments)
    except LogqueueError as error:
        detail = error.detail if isinstance(error, InvalidConfig) else error
        sys.stderr.write(f"logqueue broker: {detail}\n{USAGE}")
        return EXIT_USAGE
    configure_logging(options)
    try:
        asyncio.run(run(options))
    except (LogqueueError, OSError) as error:
        sys.stderr.write(f"logqueue broker: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        pass  # before the handlers were in place: nothing was open yet
    return EXIT_OK


def configure_logging(options: Options) -> None:
    """Log lines go to standard error."""
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


def announce(host: str, port: int) -> None:
    """The ready line, on standard output."""
    sys.stdout.write(f"logqueue broker ready on {format_address(host, port)}\n")
    sys.stdout.flush()


async def run(options: Options, *, announce: Callable[[str, int], None] = announce) -> None:
    """Start, `announce` host and port, serve until a signal, stop."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    broker = Broker(options.config, log_defaults=options.log_defaults)
    await broker.start()
    try:
        announce(options.config.host, broker.port)
        await stopping.wait()
    finally:
        await broker.stop()
