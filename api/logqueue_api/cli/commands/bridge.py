"""Bridges between the log and other brokers: RabbitMQ (AMQP 0-9-1) both ways, outcomes as CloudEvents.

  logqueue bridge in amqp://host/ --amqp-queue mails --queue emails --type email.send
  logqueue bridge out amqp://host/ --exchange outcomes              how jobs ended, as CloudEvents
  logqueue bridge out amqp://host/ --exchange jobs --queue emails   the jobs of a queue, as they lie there
  logqueue bridge events job-outcomes                               how jobs ended, into a topic of the log

Nothing is acknowledged or committed before the other side has it. Start as many as you like: they share the work.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.serving import add_serving, begin, stop_on_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from logqueue.jobs.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="in|out|events")
    inward = verbs.add_parser("in", help="messages of an AMQP queue become jobs")
    inward.add_argument("url", metavar="AMQP_URL", help="amqp://user:password@host/vhost, or amqps://")
    inward.add_argument("--amqp-queue", metavar="Q", required=True, help="the queue that is read; it must exist")
    inward.add_argument("-q", "--queue", metavar="QUEUE", default="default", help="of the jobs (default)")
    inward.add_argument("--type", metavar="TYPE", help="of messages that name none (the queue's default type)")
    inward.add_argument("--tenant", metavar="TENANT", default="default", help="of messages without header job-tenant")
    outward = verbs.add_parser("out", help="outcomes, or the jobs of a queue, are published to an AMQP exchange")
    outward.add_argument("url", metavar="AMQP_URL")
    outward.add_argument("--exchange", metavar="X", required=True, help="it must exist; bind queues to it first")
    outward.add_argument("--routing-key", metavar="KEY", help="(the type of the event, or of the job)")
    outward.add_argument("-q", "--queue", metavar="QUEUE", help="tell the jobs of this queue instead of outcomes")
    outward.add_argument("--name", metavar="NAME", help="of the bridge: what it has told is kept under it (X[.QUEUE])")
    events = verbs.add_parser("events", help="outcomes as CloudEvents into a topic of the log")
    events.add_argument("topic", metavar="TOPIC", help="made if it does not exist")
    events.add_argument("--name", metavar="NAME", help="of the bridge: what it has told is kept under it (TOPIC)")
    for verb in (inward, outward, events):
        add_serving(verb)


def run(options: argparse.Namespace) -> int:
    from logqueue_consumers.bridges.amqp_in import TooManyKept
    from logqueue_consumers.bridges.amqp_line import BrokerGone, NoSuchPlace, check_client

    from logqueue.jobs.settings import load_settings

    stack, output = begin(options)
    # What it says of a connection that cannot be made, we say too.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    settings = load_settings(bootstrap=stack.bootstrap)

    def on_ready() -> None:
        output.event({"event": "ready", "bridge": options.verb}, f"logqueue bridge {options.verb} ready")

    async def work() -> Any:
        if options.verb in ("in", "out"):
            check_client()
        bridge = _bridge(options, settings, on_ready)
        return await bridge.run(stop_on_signal())

    try:
        counts = asyncio.run(work())
    except BrokerGone as error:
        raise CommandError(str(error), code=ExitCode.UNREACHABLE) from None
    except NoSuchPlace as error:
        raise UsageError(str(error)) from None
    except TooManyKept as error:
        raise CommandError(str(error), code=ExitCode.FAILED) from None
    done = counts.moved if options.verb == "in" else counts.told
    output.event({"event": "stopped", "messages": done}, f"logqueue bridge stopped: {done} messages")
    return ExitCode.OK


def _bridge(options: argparse.Namespace, settings: Settings, on_ready: Callable[[], None]) -> Any:
    if options.verb == "in":
        from logqueue_consumers.bridges.amqp_in import AmqpInbound
        from logqueue_consumers.bridges.amqp_messages import Target

        from logqueue.clock import SystemClock
        from logqueue.jobs.definition import check_type
        from logqueue.jobs.errors import InvalidDefinition
        from logqueue.jobs.sending import check_tenant
        from logqueue.jobs.topics import check_queue

        try:
            target = Target(
                amqp_queue=options.amqp_queue,
                queue=check_queue(options.queue),
                type=None if options.type is None else check_type(options.type),
                tenant=check_tenant(options.tenant),
            )
        except InvalidDefinition as error:
            raise UsageError(str(error)) from None
        return AmqpInbound(settings, options.url, target, clock=SystemClock(), on_ready=on_ready)
    from logqueue_consumers.bridges.teller import Teller

    if options.verb == "events":
        from logqueue_consumers.bridges.topic_sink import TopicSink

        is_ours = options.topic.startswith("_") or settings.topics.role(options.topic) is not None
        if is_ours or not TOPIC.fullmatch(options.topic):
            raise UsageError(f"topic {options.topic!r} is not a topic's name, or one of logqueue's own")
        return Teller(
            settings, TopicSink(settings, options.topic), name=_name(options.name or options.topic), on_ready=on_ready
        )
    from logqueue_consumers.bridges.amqp_sink import ExchangeSink

    sink = ExchangeSink(options.url, exchange=options.exchange, routing_key=options.routing_key)
    default = options.exchange if options.queue is None else f"{options.exchange}.{options.queue}"
    return Teller(settings, sink, name=_name(options.name or default), queue=options.queue, on_ready=on_ready)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise UsageError(f"--name {text!r} is not 1 to 64 of A-Z a-z 0-9 . _ -")
    return text
