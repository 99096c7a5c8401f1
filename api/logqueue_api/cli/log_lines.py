"""Where the log lines of worker and API processes go: standard error, one line each, level first. Called once."""

from __future__ import annotations

import argparse
import logging
import sys

import structlog

# What the Kafka client says of every refused connection while it goes on trying; the error that ends it is ours.
RETRIED = ("Unable connect to", "Unable to request metadata from", "Unable to update metadata from")

LEVELS = ("debug", "info", "warning", "error")


class _RetriedConnections(logging.Filter):
    """Takes the Kafka client's lines of connections that it tries again for what they are: debugging."""

    def __init__(self, *, is_shown: bool) -> None:
        super().__init__()
        self._is_shown = is_shown

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or not str(record.msg).startswith(RETRIED):
            return True
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return self._is_shown


def add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="of the lines on standard error (info)")


def configure(level: str) -> None:
    """Send structlog's and the standard library's lines to standard error, in one form.

    The Kafka client is heard from `warning` on: it repeats what our own lines say.
    """
    number = getattr(logging, level.upper())
    logging.basicConfig(
        level=max(number, logging.WARNING),
        format="%(asctime)s [%(levelname)s] %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_RetriedConnections(is_shown=number <= logging.DEBUG))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
