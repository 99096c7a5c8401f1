"""CloudEvents 1.0 as jobs, and of outcomes. Values in, values out; binary mode of records is headers.py.

| attribute | of an event that comes in |
|---|---|
| `type` | the job's type |
| `source`, `id` | name the event, so over HTTP also the job: the same pair is the same job (an idempotency key) |
| `data` | the arguments; `data_base64` with JSON in it too |
| `datacontenttype` | application/json, any `+json`, or absent |
| `partitionkey` (extension "partitioning") | the tenant |
| `expirytime` (extension "expiry time") | not begun any more after it |
| `queue` (an extension of ours) | needed only where several queues run the type |

Others are accepted and not used. Source: CloudEvents 1.0.2, its JSON format and HTTP binding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.errors import InvalidArguments, Undecodable
from logqueue.jobs.headers import MAX_KEY_CHARS
from logqueue.jobs.payload import is_json
from logqueue.jobs.times import format_time

STRUCTURED: Final = "application/cloudevents+json"
FAMILY: Final = "application/cloudevents"
"""What every content type of CloudEvents begins with; batches and Avro are not read."""
HTTP_HEADER: Final = "ce-"
"""Before each attribute of an event in binary mode over HTTP."""
OUTCOME_TYPE: Final = "logqueue.job."
"""Before the state: `logqueue.job.succeeded`."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes that a job is made from; unknown ones are left out."""

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    partitionkey: str | None = None
    expirytime: str | None = None
    queue: str | None = None

    def arguments(self) -> bytes:
        """The JSON text of the arguments; InvalidArguments if the event's data is no JSON object."""
        if self.datacontenttype is not None and not is_json(self.datacontenttype):
            raise InvalidArguments(f"datacontenttype {self.datacontenttype!r} is not JSON", field="datacontenttype")
        if self.data_base64 is not None:
            try:
                return base64.b64decode(self.data_base64, validate=True)
            except binascii.Error as error:
                raise InvalidArguments(f"data_base64 is not Base64: {error}", field="data_base64") from None
        return b"{}" if isinstance(self.data, msgspec.UnsetType) else bytes(self.data)

    @property
    def key(self) -> str:
        """The idempotency key: `source` and `id` together name one event (CloudEvents 1.0.2, "id")."""
        text = f"{self.source} {self.id}"
        if len(text) <= MAX_KEY_CHARS and text.isprintable():
            return text
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_decode = msgspec.json.Decoder(Event).decode


def read_event(value: bytes) -> Event:
    """An event of JSON text. Undecodable: no JSON; InvalidArguments: no CloudEvent 1.0."""
    try:
        event = _decode(value)
    except msgspec.ValidationError as error:
        raise InvalidArguments(f"no CloudEvent: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"The value is not JSON: {error}") from None
    if event.specversion != "1.0":
        raise InvalidArguments(f"specversion {event.specversion!r} is not 1.0", field="specversion")
    for name in ("id", "source", "type"):
        if not getattr(event, name):
            raise InvalidArguments(f"{name} is empty", field=name)
    return event


def read_http_event(headers: Iterable[tuple[str, str]], body: bytes) -> Event:
    """An event in binary mode (HTTP binding, 3.1): `ce-` headers, and the body as its data. As read_event."""
    found = {name.lower(): text for name, text in headers}
    said = {name[len(HTTP_HEADER) :]: unquote(text) for name, text in found.items() if name.startswith(HTTP_HEADER)}
    for name in ("data", "data_base64", "datacontenttype"):
        said.pop(name, None)
    if "content-type" in found:
        said["datacontenttype"] = found["content-type"]
    if body:
        said["data_base64"] = base64.b64encode(body).decode()
    return read_event(msgspec.json.encode(said))


def is_event(content_type: str | None) -> bool:
    """Whether a content type is one CloudEvent in the JSON format."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == STRUCTURED


def outcome_event(status: JobStatus, *, source: str) -> dict[str, Any]:
    """The event that tells how a job ended; the same status is always the same event (`source`, `id`)."""
    assert status.is_terminal, "only an end is an outcome"
    ended_us = status.finished_at if status.finished_at is not None else status.at
    data: dict[str, Any] = {
        "id": status.id,
        "type": status.type,
        "queue": status.queue,
        "tenant": status.tenant,
        "group": status.group,
        "state": str(status.state),
        "attempt": status.attempt,
        "replay": status.replay,
    }
    if status.result is not None:
        data["result"] = msgspec.Raw(status.result)
    if status.error is not None:
        error = status.error
        data["error"] = {"type": error.type, "message": error.message, "class": error.error_class}
    return {
        "specversion": "1.0",
        "id": f"{status.id}/{status.replay}/{status.state}",
        "source": source,
        "type": f"{OUTCOME_TYPE}{status.state}",
        "subject": status.id,
        "time": format_time(ended_us // 1000),
        "datacontenttype": "application/json",
        "partitionkey": status.tenant,
        "data": data,
    }
