"""The child's end of the line to its worker: frames out under a lock, frames in through one thread. Blocking."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from logqueue_consumers.processes import frames
from logqueue_consumers.processes.carried_errors import pack, unpack

Reply = queue.SimpleQueue[frames.Answer]
Part = Callable[[], Any]


class Line:
    """Speaks to the worker. The worker's end is this process's end: it leaves at once, whatever runs."""

    def __init__(self, connection: socket.socket, *, on_stop: Callable[[bool], None]) -> None:
        self._socket = connection
        self._on_stop = on_stop
        self._write_lock = threading.Lock()
        self._ask_lock = threading.Lock()
        self._asked = 0
        self._replies: dict[int, Reply] = {}
        self._parts: dict[int, Part] = {}
        self.calls: queue.SimpleQueue[frames.Begin | frames.Call] = queue.SimpleQueue()

    def listen(self) -> None:
        """Read until the worker is gone; runs in a thread of its own."""
        try:
            while True:
                self._take(frames.decode_to_child(self._read_frame()))
        finally:
            os._exit(0)

    def send(self, message: frames.Message) -> None:
        """Write one message."""
        data = frames.frame(message)
        with self._write_lock:
            self._socket.sendall(data)

    def tell(self, method: str, *arguments: Any) -> None:
        """Use a service that answers nothing."""
        self.send(frames.Tell(method, pickle.dumps(arguments)))

    def ask(self, method: str, *arguments: Any, part: Part | None = None) -> Any:
        """Use a service and wait for its answer; `part` is run here, in this thread, when the worker asks for it."""
        with self._ask_lock:
            self._asked += 1
            number = self._asked
        replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replies[number] = replies
        try:
            self.send(frames.Ask(number, method, pickle.dumps(arguments)))
            while True:
                reply = replies.get()
                if isinstance(reply, frames.Answer):
                    break
                assert part is not None, "the worker asks for what was offered"
                self.send(_run_part(number, part))
        finally:
            del self._replies[number]
        if reply.error is not None:
            raise unpack(reply.error)
        return pickle.loads(reply.value)  # noqa: S301 - from our own worker

    def _take(self, message: frames.ToChild) -> None:
        match message:
            case frames.Begin() | frames.Call():
                self.calls.put(message)
            case frames.Stop():
                self._on_stop(message.is_hard)
            case frames.Answer() | frames.RunPart():
                waiting = self._replies.get(message.number)
                if waiting is not None:  # else its asker was stopped
                    waiting.put(message)  # type: ignore[arg-type]

    def _read_frame(self) -> bytes:
        (size,) = frames.LENGTH.unpack(self._read(frames.LENGTH.size))
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return bytes(data)


def _run_part(number: int, part: Part) -> frames.PartRan:
    try:
        return frames.PartRan(number, pickle.dumps(part()))
    except Exception as error:
        return frames.PartRan(number, b"", pack(error))
