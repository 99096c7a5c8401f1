"""One API process: the view's fold as its child, one producer, HTTP. Starts, serves, stops in order."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

import structlog
import uvicorn
from logqueue_consumers.calm_garbage import calm_garbage_collector
from logqueue_consumers.control.operator import Operator
from logqueue_consumers.heartbeats.tail import RosterTail
from logqueue_consumers.view.child import FoldChild, environment_of

from logqueue.clock import Clock, SystemClock
from logqueue.errors import LogqueueError
from logqueue.jobs.client import JobClient
from logqueue.jobs.settings import Settings
from logqueue_api.rest.app import Measured, build_app
from logqueue_api.rest.bounded_http import BoundedHttpProtocol
from logqueue_api.rest.cluster import Cluster
from logqueue_api.rest.control_watch import ControlWatch
from logqueue_api.rest.direct import Direct
from logqueue_api.rest.hosts import only_known_hosts
from logqueue_api.rest.limits import ApiLimits
from logqueue_api.rest.metrics import ApiMetrics
from logqueue_api.rest.operations import Operations
from logqueue_api.rest.replay_runs import ReplayRuns
from logqueue_api.rest.services import ApiOptions, Services
from logqueue_api.rest.submission import Submission
from logqueue_api.rest.view_access import ViewAccess

# A request must be answered while its client still waits, whatever patience the settings allow elsewhere.
CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 10.0
# Requests in progress get this long when the process is to end.
DRAIN_SECONDS: Final = 5
BACKLOG: Final = 2048

_log = structlog.get_logger("logqueue.api")


class PortTaken(LogqueueError):
    """The address to listen on is not free, or not ours."""


def run_api(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    view_path: Path,
    limits: ApiLimits | None = None,
    options: ApiOptions | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until SIGTERM or SIGINT. Blocking; run it in a process of its own.

    `port` 0 is any free port; `on_ready` is called once with the URL, when requests are answered. The fold runs as a
    child process and writes the view at `view_path`. Raises PortTaken.
    """
    # Every failure of the client comes to us as an exception, which says the same once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    listening = _listen(host, port)
    limits = limits or ApiLimits()
    limits = replace(limits, hosts=(*limits.hosts, host))  # a name for loopback is one that it goes by
    with listening:
        uvicorn_loop = uvicorn.Config(app=lambda: None, loop="auto", log_config=None).get_loop_factory()
        with calm_garbage_collector(), asyncio.Runner(loop_factory=uvicorn_loop) as runner:
            runner.run(
                serve(
                    settings,
                    listening,
                    view_path=view_path,
                    limits=limits,
                    options=options,
                    on_ready=on_ready,
                )
            )


async def serve(
    settings: Settings,
    listening: socket.socket,
    *,
    view_path: Path,
    limits: ApiLimits,
    options: ApiOptions | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
    clock: Clock | None = None,
) -> None:
    """Serve on a listening socket until a signal, or until cancelled."""
    async with running_services(settings, view_path=view_path, limits=limits, clock=clock or SystemClock()) as services:
        services.options = options or ApiOptions()
        services.replays.api_url = _url(listening)
        app = Direct(Measured(build_app(services), services.metrics), services)
        config = uvicorn.Config(
            only_known_hosts(app, address=listening.getsockname()[0], listed=limits.hosts),
            http=BoundedHttpProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            backlog=BACKLOG,
        )
        server = _Server(config, on_stopping=services.stop, on_ready=lambda: on_ready(_url(listening)))
        await server.serve(sockets=[listening])


@asynccontextmanager
async def running_services(
    settings: Settings, *, view_path: Path, limits: ApiLimits, clock: Clock
) -> AsyncIterator[Services]:
    """The parts of an API, started; stopped in the opposite order."""
    hasty = replace(
        settings,
        connect_timeout_s=min(settings.connect_timeout_s, CONNECT_SECONDS),
        send_timeout_s=min(settings.send_timeout_s, SEND_SECONDS),
    )
    async with AsyncExitStack() as stack:
        view = ViewAccess(view_path, limits)
        fold = FoldChild(settings, view_path, on_report=view.take_report)
        await stack.enter_async_context(fold)
        # Readers go first: whoever closes the file last moves the write-ahead log into it, and that takes a writer.
        stack.callback(view.close)
        cluster = Cluster(hasty, timeout=limits.log_timeout_s)
        stack.push_async_callback(cluster.close)
        client = JobClient(hasty, clock=clock)
        stack.push_async_callback(client.close)

        async def read_definitions() -> None:
            fold.discover_soon()
            await view.wait_for(await cluster.last_offsets(settings.topics.control), timeout=limits.position_wait_s)

        submission = Submission(
            client,
            view=view,
            read_definitions=read_definitions,
            on_new_topic=fold.discover_soon,
            read_value=cluster.value_at,
            clock=clock,
        )
        replays = ReplayRuns(clock, environment=environment_of(settings))
        stack.push_async_callback(replays.close)
        workers = RosterTail(hasty)
        following = asyncio.create_task(workers.run(), name="heartbeats")
        stack.push_async_callback(_cancel, following)
        operator = Operator(hasty, clock)
        stack.push_async_callback(operator.stop)
        operations = Operations(clock, bootstrap=settings.bootstrap)
        stack.push_async_callback(operations.close)
        control = ControlWatch(hasty, view=view, writer=operator.writer, clock=clock)
        stack.push_async_callback(_cancel, asyncio.create_task(control.run(), name="control"))
        yield Services(
            settings=settings,
            limits=limits,
            clock=clock,
            view=view,
            fold=fold,
            client=client,
            submission=submission,
            cluster=cluster,
            metrics=ApiMetrics(),
            workers=workers,
            replays=replays,
            operator=operator,
            operations=operations,
            control=control,
        )


async def _cancel(task: asyncio.Task[NoReturn]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class _Server(uvicorn.Server):
    """uvicorn that tells when it is ready, and when it is not any more."""

    def __init__(
        self, config: uvicorn.Config, *, on_stopping: Callable[[], None], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_stopping = on_stopping
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first signal drains, a second SIGINT does not wait. uvicorn's own would kill us before we clean up."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stopping()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: {error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        raise PortTaken(
            f"cannot listen on {host}:{port}: {reason}; choose another --http-port (0: any free one)"
        ) from error
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - shown, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
