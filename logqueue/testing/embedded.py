"""EmbeddedBroker: the broker in a thread of this process. Knows no test framework."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from logqueue.broker.broker import Broker
from logqueue.broker.network.door import Door
from logqueue.broker.network.listener import format_address
from logqueue.config import BrokerConfig, LogConfig
from logqueue.config.listeners import listeners_of
from logqueue.errors import LogqueueError
from logqueue.storage.environment import Environment

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0


class EmbeddedBroker:
    """A Kafka-protocol broker on a free port of this machine, with its own thread and event loop.

    Works from synchronous and asynchronous code alike. Start it with `with` or `start()`; a temporary data folder is
    removed at the end, a given one is kept.

        with EmbeddedBroker(num_partitions=3) as broker:
            producer = Producer({"bootstrap.servers": broker.bootstrap})
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        fsync: bool = True,
        environment: Environment | None = None,
        log_defaults: LogConfig | None = None,
        **config: Any,
    ) -> None:
        """`config` takes the fields of `logqueue.config.BrokerConfig`, such as `port` or `num_partitions`.

        With `fsync=False` nothing waits for the disk, also not acks=all: faster, and safe as long as the machine runs.
        `environment` replaces the disk, for tests of what happens when it fails. `log_defaults` are those of topics.
        """
        config.setdefault("port", 0)
        config.setdefault("fsync_acks_all", fsync)
        self._given_data_dir = None if data_dir is None else Path(data_dir)
        self._config = BrokerConfig(**config)
        self._environment = environment
        self._log_defaults = log_defaults
        self._data_dir: Path | None = self._given_data_dir
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._metrics_port: int | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of the first listener, for clients; stays the same over `restart()`."""
        return format_address(listeners_of(self._config)[0].host, self.port)

    def address_of(self, listener: str) -> str:
        """`host:port` of a listener by its name, such as SASL_SSL. Raises KeyError for a listener that is not there."""
        endpoint = {endpoint.name: endpoint for endpoint in listeners_of(self._config)}[listener]
        return format_address(endpoint.host, endpoint.port)

    @property
    def port(self) -> int:
        """The port that was bound. Raises LogqueueError before the first start."""
        port = listeners_of(self._config)[0].port
        if not port:
            raise LogqueueError("the broker has not been started: use `with EmbeddedBroker() as broker` or start()")
        return port

    @property
    def metrics_port(self) -> int | None:
        """Port of /metrics and /healthz while it runs; None unless `metrics_port` was given (0: any free one)."""
        return self._metrics_port

    @property
    def data_dir(self) -> Path:
        """The folder that holds everything; a temporary one unless given."""
        if self._data_dir is None:
            self._data_dir = Path(tempfile.mkdtemp(prefix="logqueue-"))
        return self._data_dir

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def start(self) -> Self:
        """Start, and return when connections are taken. Raises what keeps the broker from starting."""
        if self._thread is not None:
            return self
        started: Future[list[Door]] = Future()
        config = self._config.with_(data_dir=self.data_dir)
        thread = threading.Thread(target=self._run, args=(config, started), name="logqueue-broker", daemon=True)
        thread.start()
        try:
            doors = started.result(START_TIMEOUT_SECONDS)
        except BaseException:
            thread.join(STOP_TIMEOUT_SECONDS)
            self._remove_temporary()
            raise
        self._thread = thread
        self._config = _with_ports(self._config, doors)  # a restart comes back to the same ports
        return self

    def stop(self) -> None:
        """Stop cleanly and keep the data folder for `start()`; does nothing if it is not running."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._loop is not None and self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join(STOP_TIMEOUT_SECONDS)
        if thread.is_alive():
            raise LogqueueError(f"the broker did not stop within {STOP_TIMEOUT_SECONDS:g} s")
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def restart(self) -> None:
        """Stop cleanly and start again on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop and remove a temporary data folder."""
        try:
            self.stop()
        finally:
            self._remove_temporary()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remove_temporary(self) -> None:
        if self._given_data_dir is None and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def _run(self, config: BrokerConfig, started: Future[list[Door]]) -> None:
        try:
            asyncio.run(self._serve(config, started))
        except BaseException as error:
            if started.done():
                self._failure = error  # shown by stop()
            else:
                started.set_exception(error)

    async def _serve(self, config: BrokerConfig, started: Future[list[Door]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        broker = Broker(config, environment=self._environment, log_defaults=self._log_defaults)
        await broker.start()
        self._metrics_port = broker.metrics_port
        try:
            started.set_result(broker.doors)
            await self._stopping.wait()
        finally:
            await broker.stop()


def _with_ports(config: BrokerConfig, doors: list[Door]) -> BrokerConfig:
    """The configuration with the ports that were bound."""
    if not config.listeners:
        return config.with_(port=doors[0].port)
    named = tuple(f"{d.endpoint.name}://{format_address(d.endpoint.host, d.port)}" for d in doors)
    return config.with_(listeners=named)
