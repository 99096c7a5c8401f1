"""What commands share that run until they are told to stop: settings, log lines, output, signals."""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import NamedTuple

from logqueue_api.cli.arguments import add_config, add_stack
from logqueue_api.cli.log_lines import add_log_level, configure
from logqueue_api.cli.output import Output
from logqueue_api.cli.stack import Stack, find_stack, use_config


class Serving(NamedTuple):
    """Where the stack is, and where the command says what becomes of it."""

    stack: Stack
    output: Output


def add_serving(parser: argparse.ArgumentParser) -> None:
    """--config, --log-level, and how the stack is found."""
    add_config(parser)
    add_log_level(parser)
    add_stack(parser)


def begin(options: argparse.Namespace) -> Serving:
    """Take what `add_serving` asked for; raises UsageError where the stack has no address."""
    use_config(options)
    stack = find_stack(options)
    configure(options.log_level)
    return Serving(stack, Output(is_json=options.json))


def stop_on_signal() -> asyncio.Event:
    """An event of the running loop that SIGTERM and Ctrl-C set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
