"""Where the log lines of worker and API processes go: standard error, one line each, level first. Called once."""

from __future__ import annotations

import argparse
import logging
import sys

import structlog

LEVELS = ("debug", "info", "warning", "error")


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
