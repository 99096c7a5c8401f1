"""Look for what is wrong, or will be, with a log: its folder, its disk, its machine, its settings, its readers.

The data folder is looked at as it lies on the disk, whether a broker runs on it or not; a broker that runs is asked
too. Nothing is changed. Exit code 1 says that there is a problem (with --strict: or a warning).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.output import Output

if TYPE_CHECKING:
    from logqueue.broker.command import Options
    from logqueue.broker.doctor.finding import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the broker's config file, to be judged as well")
    parser.add_argument("--strict", action="store_true", help="exit 1 for warnings too")


def run(options: argparse.Namespace) -> int:
    from logqueue.broker.doctor.finding import Status, worst
    from logqueue.broker.doctor.machine import ClockWatch

    clock = ClockWatch()
    findings = [*_offline(options), *_online(options), clock.finding()]
    _show(findings, Output(is_json=options.json))
    bad = (Status.PROBLEM, Status.WARNING) if options.strict else (Status.PROBLEM,)
    return ExitCode.FAILED if worst(findings) in bad else ExitCode.OK


def _offline(options: argparse.Namespace) -> Iterator[Finding]:
    from logqueue.broker.doctor import machine
    from logqueue.broker.doctor.durability import judge_broker_settings
    from logqueue.broker.doctor.finding import ok, problem
    from logqueue.broker.doctor.folder import holder_of, look_at_folder, topics_of
    from logqueue.config.catalogue import texts_of
    from logqueue.errors import LogqueueError

    settings = _settings(options)
    folder = settings.config.data_dir
    partitions = 0
    try:
        if not folder.is_dir():
            yield ok("data folder", f"{folder} does not exist yet")
            holder = None
        else:
            holder = holder_of(folder)
            yield from look_at_folder(folder, is_running=holder is not None)
            yield from machine.look_at_space(folder)
            if os.access(folder, os.W_OK):
                yield machine.look_at_fsync(folder)
            partitions = sum(topic.partitions for topic in topics_of(folder).values())
    except (OSError, LogqueueError) as error:
        yield problem("data folder", f"{folder}: {error}")
        return
    yield machine.look_at_limits(settings.config, partitions=partitions)
    if holder is None and options.bootstrap is None:
        yield from machine.look_at_ports(settings.config)
    if options.config is not None:
        yield from judge_broker_settings(dict(texts_of(settings.config, settings.log_defaults)))


def _settings(options: argparse.Namespace) -> Options:
    """What a broker would start with. Raises InvalidConfig or a UsageError that names the file and line."""
    from logqueue.broker import command

    words = ["--data-dir", str(options.data_dir)]
    if options.config is not None:
        named = command.read_config(options.config)
        if any(given.name in ("log.dir", "log.dirs") for given in named):
            words = []
        words += ["--config", str(options.config)]
    return command.parse(words)


def _online(options: argparse.Namespace) -> list[Finding]:
    from logqueue.broker.doctor.finding import ok, problem
    from logqueue_api.cli.stack import DEFAULT_BOOTSTRAP, find_stack

    stack = find_stack(options)
    if stack.bootstrap == DEFAULT_BOOTSTRAP and stack.bootstrap_source.startswith("the default"):
        return [ok("broker", "not asked: none is named (--bootstrap, LOGQUEUE_BOOTSTRAP, run.json)")]
    from logqueue_api.cli import kafka
    from logqueue_api.cli.doctor_log import ask

    try:
        return kafka.run(ask(stack, options.data_dir))
    except CommandError as error:
        return [problem("broker", error.message, error.hint)]


def _show(findings: list[Finding], output: Output) -> None:
    if output.is_json:
        items = [
            {"check": each.check, "status": each.status.value, "text": each.text, "hint": each.hint or None}
            for each in findings
        ]
        output.document({"items": items})
        return
    width = max(len(each.check) for each in findings)
    for each in findings:
        output.line(f"{each.status.value:<8} {each.check:<{width}}  {each.text}")
        if each.hint:
            output.line(f"{'':<8} {'':<{width}}  -> {each.hint}")
