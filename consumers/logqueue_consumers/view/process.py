"""The fold as a process of its own: `python -m logqueue_consumers.view`. Start, signals, the pipe to the parent.

As a child (`--report-fd`) it lives as long as its standard input is open, so that it never outlives its parent; a line
"discover" there makes it look for new topics at once. Ctrl-C is then the parent's to handle.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog
import uvloop
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, StatusCodec

from logqueue.errors import LogqueueError
from logqueue.jobs.admin import TopicsNotCreated, ensure_topics
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings, load_settings
from logqueue_consumers.view.batches import BatchReader
from logqueue_consumers.view.fold import Fold
from logqueue_consumers.view.follower import Follower, FollowLimits
from logqueue_consumers.view.reports import Reporter
from logqueue_consumers.view.store import ViewStore

DISCOVER: Final = b"discover\n"

_PIPE_BYTES: Final = 1024 * 1024  # waiting for the parent; more is joined into fewer reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fold until a signal or the end of the parent: exit code 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m logqueue_consumers.view", description="Fold the topics into a view."
    )
    parser.add_argument("--path", type=Path, required=True, help="the SQLite file")
    parser.add_argument("--config", type=Path, help="settings file (default: logqueue.toml)")
    parser.add_argument("--report-fd", type=int, help="pipe to report commits on; ends with standard input")
    options = parser.parse_args(arguments)
    # A batch is many small objects that live until it is written, and no cycles: collecting all the time costs a fifth.
    gc.set_threshold(50_000, 50, 100)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    # Every failure of the client comes to us as an exception, which says the same once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        settings = load_settings(file=options.config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, options.path, options.report_fd))
    except LogqueueError as error:
        sys.stderr.write(f"logqueue view: {error}\n")
        return 1
    return 0


class ParentPipe:
    """Reports go out through one pipe; the parent's words, or its end, come in through standard input."""

    def __init__(self, *, on_parent_gone: Callable[[], object]) -> None:
        self._on_parent_gone = on_parent_gone
        self._out: asyncio.WriteTransport | None = None
        self._in: asyncio.ReadTransport | None = None
        self.on_discover: Callable[[], None] = lambda: None
        self.reporter = Reporter(self._send, self._is_full)

    async def open(self, report_fd: int) -> None:
        """Take both ends."""
        loop = asyncio.get_running_loop()
        self._out, _ = await loop.connect_write_pipe(
            lambda: _OutProtocol(self.reporter.flush, self._on_parent_gone), os.fdopen(report_fd, "wb", buffering=0)
        )
        self._out.set_write_buffer_limits(high=_PIPE_BYTES)
        self._in, _ = await loop.connect_read_pipe(
            lambda: _InProtocol(lambda: self.on_discover(), self._on_parent_gone), sys.stdin.buffer
        )

    def close(self) -> None:
        """Let go of both ends."""
        for transport in (self._out, self._in):
            if transport is not None:
                transport.close()

    def _send(self, data: bytes) -> None:
        assert self._out is not None
        self._out.write(data)

    def _is_full(self) -> bool:
        return self._out is None or self._out.get_write_buffer_size() >= _PIPE_BYTES


class _OutProtocol(asyncio.Protocol):
    def __init__(self, on_room: Callable[[], None], on_lost: Callable[[], object]) -> None:
        self._on_room = on_room
        self._on_lost = on_lost

    def resume_writing(self) -> None:
        self._on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


class _InProtocol(asyncio.Protocol):
    def __init__(self, on_discover: Callable[[], None], on_lost: Callable[[], object]) -> None:
        self._on_discover = on_discover
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        # One word is known; whatever comes, looking for topics once too often does no harm.
        self._on_discover()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


async def run_fold(settings: Settings, path: Path, *, pipe: ParentPipe | None, limits: FollowLimits) -> None:
    """Fold the topics of `settings` into the file at `path`, until cancelled."""
    registry = open_registry(settings)
    try:
        # Made by the first worker, it would be found at the next look for new topics: its first statuses came late.
        await ensure_topics(settings, [settings.topics.status_spec()])
    except TopicsNotCreated as error:
        structlog.get_logger().warning("the view waits for its status topic", error=str(error))
    # Whoever registers our schema asks for the same id; other ids are looked up.
    reader = BatchReader(settings.topics, StatusCodec(content_id(SCHEMA), schema_of=registry.schema_of))
    async with Follower(settings, wanted=reader.reads, limits=limits) as follower:
        store = ViewStore.open(path, cluster_id=follower.cluster_id)
        try:
            fold = Fold(
                follower=follower,
                store=store,
                reader=reader,
                registry=registry,
                reporter=pipe.reporter if pipe else None,
                discovery_interval=limits.discovery_interval,
            )
            if pipe is not None:
                pipe.on_discover = fold.discover_soon
            await fold.run()
        finally:
            store.close()


async def _run(settings: Settings, path: Path, report_fd: int | None) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    if report_fd is None:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        pipe = None
    else:
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        pipe = ParentPipe(on_parent_gone=task.cancel)
        await pipe.open(report_fd)
    try:
        await run_fold(settings, path, pipe=pipe, limits=FollowLimits())
    except asyncio.CancelledError:
        pass  # the ordinary end
    finally:
        if pipe is not None:
            pipe.close()
