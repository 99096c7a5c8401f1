"""From a frame to its handler and back: headers, versions, encoding. Knows two APIs by name: ApiVersions and Produce.

A handler is a module `logqueue.broker.handlers.<api>` with

    def handle(broker: Broker, request: XRequest, slot: Slot) -> XResponse | None

It is imported when its API is first used, so that start-up pays for nothing. None means that the answer comes later,
by `Broker.answer(slot, response)`, or never (`slot.fill([])`). Frames are only valid during the call. What it did not
foresee is answered by `failures`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from logqueue.broker.network.session import Session, Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import (
    RequestHeader,
    read_request,
    read_request_header,
    write_response,
    write_unsupported_api_versions,
)
from logqueue.protocol.versions import SERVED

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.repeats import Repeats
    from logqueue.broker.security.control import Control

Handler = Callable[["Broker", Any, Slot], Any]


class NotServed(KafkaError):
    """An API or version that this broker does not serve; Kafka ends such connections, and so do we."""

    code = ErrorCode.UNSUPPORTED_VERSION


class Dispatcher:
    """Serves frames with the handlers of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.control: Control | None = None  # what requests have to pass where there are ACLs or quotas
        self._repeats: Repeats | None = None  # from the first produce request on
        self._handlers: dict[int, Handler] = {}  # by key and version, packed into one number

    def serve(self, session: Session, frame: memoryview) -> None:
        """Serve one request. Raises KafkaError when the connection has to end."""
        if self._repeats is not None and self.control is None and self._repeats.serve(session, frame):
            return
        self.serve_held()
        header, position = read_request_header(frame)
        key, version, correlation_id, _ = header
        handler = self._handlers.get(key << 16 | version)
        if handler is None:
            handler = self._find(key, version)
            if handler is None:
                self._refuse_version(session, header)
                return
        request = read_request(key, version, frame, position)
        slot = session.open_slot(header)
        try:
            if self.control is not None:
                self.control.serve(handler, request, slot, len(frame))
                return
            if key == ApiKey.PRODUCE and self._repeats is not None:
                self._repeats.learn(session, header, frame, request)
            response = handler(self._broker, request, slot)
            if response is not None:
                slot.fill(write_response(key, version, correlation_id, response))
        except Exception as error:
            from logqueue.broker.failures import answer_failure

            if not answer_failure(error, request, slot):
                raise  # such a request has no answer (acks=0): the end of its connection says it

    def serve_held(self) -> None:
        """Serve what was kept to be served with others of its kind."""
        if self._repeats is not None and self._repeats.held:
            self._repeats.write()

    def _find(self, key: int, version: int) -> Handler | None:
        """The handler of a served version; None for a version of ApiVersions that is too new."""
        served = SERVED.get(key)  # type: ignore[call-overload]
        if served is None:
            raise NotServed(f"API key {key} is not served")
        if version not in served:
            if key == ApiKey.API_VERSIONS:
                return None
            raise NotServed(f"{ApiKey(key).name} version {version} is not served (only {served.min} to {served.max})")
        handler: Handler = import_module(f"logqueue.broker.handlers.{ApiKey(key).name.lower()}").handle
        if self._broker.request_meters is not None:
            handler = self._broker.request_meters.measured(key, handler)
        if key == ApiKey.PRODUCE and self._repeats is None:
            self._repeats = import_module("logqueue.broker.repeats").repeats_of(self._broker)
        self._handlers[key << 16 | version] = handler
        return handler

    def _refuse_version(self, session: Session, header: RequestHeader) -> None:
        # KIP-511: whatever version was asked, the refusal has the layout of version 0 and tells what is served.
        session.open_slot(header).fill(write_unsupported_api_versions(header.correlation_id))
