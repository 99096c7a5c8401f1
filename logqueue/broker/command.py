"""The command line of the broker process: options, config file, ready line, signals, exit codes. Knows no request.

Options are read by hand: argparse would be a tenth of the start-up time for a few options.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from logqueue.broker import descriptors, quick_start
from logqueue.broker.broker import Broker
from logqueue.broker.network.listener import format_address
from logqueue.config import BrokerConfig, InvalidConfig, LogConfig
from logqueue.config.startup import Given, start_with
from logqueue.errors import LogqueueError

USAGE = """\
usage: python -m logqueue.broker [--config FILE] [--data-dir DIR] [--kafka-port PORT] [--host HOST]
                                 [--override NAME=VALUE ...] [--metrics-port PORT]
                                 [--log-level LEVEL] [--log-format FORMAT]

  --config FILE           settings under their Kafka names, in the form of Kafka's server.properties
  --override NAME=VALUE   one such setting; may be repeated, and counts before the file
  --data-dir DIR          folder that holds everything: log.dir (default: logqueue-data)
  --kafka-port PORT       port to listen on, 0 for any free one: port (default: 9092)
  --host HOST             address to listen on: host.name (default: 127.0.0.1)
  --metrics-port PORT     port of /metrics and /healthz, 0 for any free one: logqueue.metrics.port (default: none)
  --log-level LEVEL       debug, info, warning or error: logqueue.log.level (default: warning)
  --log-format FORMAT     text, logfmt or json: logqueue.log.format (default: text)

Options with a name of their own count before --override, that before --config, that before the defaults.
What was changed while the broker ran (kafka-configs) is stored in the data folder and counts before all of them.
"""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

log = logging.getLogger("logqueue.broker")

_SETTINGS = {
    "data-dir": "log.dir",
    "kafka-port": "port",
    "host": "host.name",
    "metrics-port": "logqueue.metrics.port",
    "log-level": "logqueue.log.level",
    "log-format": "logqueue.log.format",
}
_OPTIONS = ("config", "override", *_SETTINGS)


class UsageError(LogqueueError):
    """The command line cannot be understood."""


class Options(NamedTuple):
    """What the command line and the config file say; `warnings` and `notes` are about names in them."""

    config: BrokerConfig
    log_defaults: LogConfig
    static: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line and the config file that it names. Raises UsageError or InvalidConfig."""
    startup = start_with(_given(_words(arguments)))
    return Options(
        config=startup.config,
        log_defaults=startup.log_defaults,
        static=startup.static,
        warnings=startup.warnings,
        notes=startup.notes,
    )


def _given(words: list[tuple[str, str]]) -> Iterator[Given]:
    """Every setting that was given, the ones that count most last."""
    named = dict(words)  # of an option that is given twice the last counts
    if "config" in named:
        yield from read_config(Path(named["config"]))
    for option, override in words:
        if option == "override":
            name, equals, value = override.partition("=")
            if not equals or not name:
                raise UsageError(f"--override wants NAME=VALUE, not {override!r}")
            yield Given(name=name.strip(), text=value, where=f"--override {name.strip()}", is_strict=True)
    for option, name in _SETTINGS.items():
        if option in named:
            yield Given(name=name, text=named[option], where=f"--{option}")


def read_config(path: Path) -> list[Given]:
    """The settings of a file in the form of Kafka's server.properties. Raises UsageError."""
    from logqueue.config.properties_file import parse_properties

    try:
        lines = parse_properties(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--config {path} is not a properties file in UTF-8: {error}") from None
    return [Given(name=line.name, text=line.value, where=f"{path}:{line.number}") for line in lines]


def _words(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """The options and their values as they were typed."""
    words = []
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        name = option.removeprefix("--")
        if not option.startswith("--") or name not in _OPTIONS:
            raise UsageError(f"unknown option {option}")
        if not equals:
            if not rest:
                raise UsageError(f"{option} wants a value")
            value = rest.pop(0)
        words.append((name, value))
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
    descriptors.raise_limit()
    try:
        asyncio.run(run(options))
    except (LogqueueError, OSError) as error:
        sys.stderr.write(f"logqueue broker: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        pass  # before the handlers were in place: nothing was open yet
    return EXIT_OK


def configure_logging(options: Options) -> None:
    """Log lines go to standard error, in the form that the settings ask for; remarks about settings come first."""
    from logqueue.broker.log_format import formatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(options.config.log_format))
    logging.basicConfig(level=options.config.log_level.upper(), handlers=[handler])
    for warning in options.warnings:
        log.warning("%s", warning)
    for note in options.notes:
        log.info("%s", note)


def announce(host: str, port: int, metrics: str | None) -> None:
    """The ready line, on standard output; `metrics` is the address of /metrics, where it was asked for."""
    suffix = "" if metrics is None else f" (metrics on {metrics})"
    sys.stdout.write(f"logqueue broker ready on {format_address(host, port)}{suffix}\n")
    sys.stdout.flush()


async def run(options: Options, *, announce: Callable[[str, int, str | None], None] = announce) -> None:
    """Start, `announce` host, port and metrics address, serve until a signal, stop."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    broker = Broker(options.config, log_defaults=options.log_defaults, static=options.static)
    await broker.start()
    quick_start.end()
    try:
        metrics = None
        if broker.metrics_port is not None:
            metrics = f"http://{format_address(options.config.metrics_host, broker.metrics_port)}/metrics"
        announce(broker.doors[0].endpoint.host, broker.port, metrics)
        await stopping.wait()
    finally:
        await broker.stop()
