"""What every request passes on a broker with ACLs or quotas: the guard of its API, then the meters. Knows no API."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.schema import Message

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.security.metering import Metering
    from logqueue.broker.security.registry import Security

Handler = Callable[["Broker", Any, Slot], Any]


class NotGuarded(KafkaError):
    """An API that no guard knows: nobody may use it while there is an authorizer."""

    code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED


class Control:
    """Stands between the dispatcher and the handlers; there is none where nobody asked for it."""

    def __init__(self, broker: Broker, security: Security) -> None:
        self._broker = broker
        self._security = security
        self._authorizer = security.authorizer
        self._metering: Metering | None = None
        self.follow_quotas()

    def follow_quotas(self) -> None:
        """Act by the quotas as they are now."""
        quotas = self._security.quotas
        if not quotas.keys:
            self._metering = None
        elif self._metering is None:
            from logqueue.broker.security.metering import Metering

            self._metering = Metering(self._broker, quotas)
        else:
            self._metering.replace(quotas)

    def serve(self, handler: Handler, request: Any, slot: Slot, size: int) -> None:
        """Serve a request of `size` bytes as far as its sender may. Raises KafkaError if its connection has to end."""
        run: Callable[[], Any] = partial(handler, self._broker, request, slot)
        failure: KafkaError | None = None
        if self._authorizer is not None:
            verdict = self._judge(request, slot)
            if isinstance(verdict, Message):
                run = partial(_same, verdict)
            elif isinstance(verdict, KafkaError):
                failure = verdict
            else:
                slot.amend = verdict
        metering = self._metering
        response = run() if metering is None else metering.serve(run, request, slot, size)
        if failure is not None:
            raise failure
        if response is not None:
            self._broker.answer(slot, response)

    def _judge(self, request: Any, slot: Slot) -> Any:
        from logqueue.broker.security.guards.access import Access
        from logqueue.broker.security.guards.table import GUARDS

        guard = GUARDS.get(slot.header.api_key)
        if guard is None:
            raise NotGuarded(f"API {slot.header.api_key} has no rule who may use it, so nobody may")
        assert self._authorizer is not None
        session = slot.session
        access = Access(self._broker, self._authorizer, session.principal, session.peer_host)
        return guard(access, request, slot.api_version)


def _same(response: Any) -> Any:
    return response
