"""A broker in a process of its own behind a proxy: killed, stopped and started again on one port and folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.engines.apache import free_ports
from tests.soak.proxy import Proxy

START_SECONDS = 30
STOP_SECONDS = 30
SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.flush.offset.checkpoint.interval.ms": "2000",
    # Small segments, so that the coordinators' topics are compacted under the clients all the time.
    "offsets.topic.segment.bytes": "20000",
    "transaction.state.log.segment.bytes": "20000",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.min.cleanable.ratio": "0.05",
}


class BrokerProcess:
    """`bootstrap` is the address of the proxy; the broker tells clients no other."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        (self._port,) = free_ports(1)
        self.proxy = Proxy(("127.0.0.1", self._port))
        self.bootstrap = f"127.0.0.1:{self.proxy.port}"
        self.direct = f"127.0.0.1:{self._port}"  # past the proxy
        self.log = folder / "broker.log"
        self.data = folder / "data"
        self.starts = 0
        told = {
            "listeners": f"PLAINTEXT://{self.direct}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            **SETTINGS,
            **(settings or {}),
        }
        self._command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(self.data)]
        for name, value in told.items():
            self._command += ["--override", f"{name}={value}"]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and return when it is ready. Raises AssertionError with the end of its log."""
        with self.log.open("ab") as log:
            log.write(b"--- start %d\n" % self.starts)
            log.flush()
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.starts += 1
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "ready" in line, f"the broker did not start:\n{self.log.read_text()[-2000:]}"

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop cleanly. Raises AssertionError if it did not end well."""
        code = self._end(signal.SIGTERM)
        assert code == 0, f"the broker ended with {code}:\n{self.log.read_text()[-2000:]}"

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
        self.proxy.close()

    def tracebacks(self) -> str:
        """The first traceback in the broker's log; empty if there is none."""
        text = self.log.read_text(errors="replace")
        at = text.find("Traceback (most recent call last)")
        return "" if at < 0 else text[max(at - 300, 0) : at + 2500]

    def _end(self, signal_number: int) -> int:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal_number)
        process.communicate(timeout=STOP_SECONDS)
        return process.returncode
