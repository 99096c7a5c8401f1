"""Requests and answers on their way between clients and the node: late, lost, or asked again. Knows no Kafka."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from logqueue.protocol.frames import RequestHeader
from logqueue.protocol.schema import Message
from tests.simulation.node import Node
from tests.simulation.world import World

TIMEOUT_SECONDS = 3.0
"""How long a client waits for an answer; a JoinGroup is waited for longer."""
DELAY_SECONDS = (0.001, 0.02)
LATE_SECONDS = (0.1, 6.0)
"""How late a message may be that is not lost: later than anyone waits for it."""


class Ask(NamedTuple):
    """A client's request; what comes back is its answer, or None when time is over.

    `may_outlive` is whether it may arrive after that, as late messages do.
    """

    version: int
    message: Message
    timeout: float = TIMEOUT_SECONDS
    may_outlive: bool = True


class Wait(NamedTuple):
    seconds: float


Script: TypeAlias = Generator[Ask | Wait, Any, None]
"""A client: it yields what it asks or how long it waits, and is sent the answers."""


@dataclass(slots=True)
class Weather:
    """How bad the network is: shares of messages that are lost, and that come late."""

    lost: float = 0.0
    late: float = 0.0


class Network:
    """Between all clients and the node."""

    def __init__(self, world: World, node: Node, weather: Weather) -> None:
        self.weather = weather
        self._world = world
        self._node = node
        self._numbers = count(1)

    def ask(self, client_id: str, ask: Ask, then: Callable[[Message | None], None]) -> None:
        """Send a request; `then` is told the answer or None, once. What is late may still have its effect."""
        is_over = False

        def end(answer: Message | None) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                then(answer)

        key = ask.message.api_key
        assert key is not None
        header = RequestHeader(key, ask.version, next(self._numbers), client_id)

        def arrive() -> None:
            if ask.may_outlive or not is_over:
                self._node.serve(header, ask.message, lambda answer: self._send(lambda: end(answer)))

        self._send(arrive)
        self._world.after(ask.timeout, lambda: end(None))

    def _send(self, arrive: Callable[[], None]) -> None:
        random = self._world.random
        if random.random() < self.weather.lost:
            return
        spread = LATE_SECONDS if random.random() < self.weather.late else DELAY_SECONDS
        self._world.after(random.uniform(*spread), arrive)


class Actor:
    """Runs one script. It can be killed, and then never hears or says anything again."""

    def __init__(self, world: World, network: Network, client_id: str, script: Script) -> None:
        self.is_alive = True
        self._world = world
        self._network = network
        self._client_id = client_id
        self._script = script
        world.after(0, lambda: self._go_on(None))

    def kill(self) -> None:
        self.is_alive = False
        self._script.close()  # now, not with its memory: what it writes down at its end is part of the run

    def _go_on(self, answer: Message | None) -> None:
        if not self.is_alive:
            return
        try:
            wish = self._script.send(answer)
        except StopIteration:
            self.is_alive = False
            return
        if isinstance(wish, Wait):
            self._world.after(wish.seconds, lambda: self._go_on(None))
        else:
            self._network.ask(self._client_id, wish, self._go_on)
