"""Where the log lines of worker and API processes go: standard error, one line each, level first. Called once."""

from __future__ import annotations

import argparse
import logging
import sys
import time

import structlog

ORDINARY = (
    # Of every refused connection while it goes on trying; the error that ends it is ours.
    "Unable connect to",
    "Unable to request metadata from",
    "Unable to update metadata from",
    # Of every worker that comes or goes; that partitions were revoked and assigned is told by us.
    "Heartbeat failed for group %s because it is rebalancing",
)
"""What the Kafka client warns of though nothing is wrong."""

LEVELS = ("debug", "info", "warning", "error")


class _Ordinary(logging.Filter):
    """Takes the Kafka client's lines of what is ordinary for what they are: debugging."""

    def __init__(self, *, is_shown: bool) -> None:
        super().__init__()
        self._is_shown = is_shown

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or not str(record.msg).startswith(ORDINARY):
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
        format="%(asctime)s.%(msecs)03dZ [%(levelname)s] %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        stream=sys.stderr,
    )
    for handler in logging.getLogger().handlers:
        if handler.formatter is not None:
            handler.formatter.converter = time.gmtime  # as in our own lines
        handler.addFilter(_Ordinary(is_shown=number <= logging.DEBUG))
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
