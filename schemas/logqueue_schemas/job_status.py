"""Status records of jobs <-> bytes: Avro (`job_status.avsc`) in Confluent framing. Knows no Kafka client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from logqueue_schemas.avro import load_schema, without_logical_types
from logqueue_schemas.avro_reading import AvroReader
from logqueue_schemas.framing import HEADER_BYTES, InvalidFrame, frame_header, read_frame
from logqueue_schemas.status_decoding import NOT_FOR_US, decode_fields
from logqueue_schemas.status_encoding import encode_status

T = TypeVar("T")

SUBJECT_SUFFIX = "-value"  # Confluent's TopicNameStrategy: `<topic>-value`


class State(StrEnum):
    """Where a job is in its life."""

    UNKNOWN = "unknown"  # only read, where a newer writer has a state that this reader does not know
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    PARKED = "parked"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    BLOCKED = "blocked"  # last: the places of the symbols in the schema never change


RANKS = {
    State.UNKNOWN: 0,
    State.QUEUED: 0,
    State.SCHEDULED: 1,
    State.BLOCKED: 1,
    State.PARKED: 2,
    State.RUNNING: 3,
    State.RETRYING: 4,
    State.SUCCEEDED: 5,
    State.DEAD: 5,
    State.CANCELLED: 5,
    State.EXPIRED: 5,
}
TERMINAL = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED})


class StatusError(msgspec.Struct, frozen=True, gc=False):
    """Why a job failed: the error's type, its text, and its class (`job-error-class`)."""

    type: str
    message: str
    error_class: str


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One status record. Times are microseconds since the epoch; `result` is JSON text, `details` a JSON object."""

    id: str
    queue: str
    tenant: str
    group: str
    state: State
    at: int
    topic: str
    partition: int
    offset: int
    type: str | None = None
    shadow: bool = False
    replay: int = 0
    attempt: int = 1
    rank: int = 0
    sequence: int = 0
    created_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    due_at: int | None = None
    result: bytes | None = None
    error: StatusError | None = None
    worker: str | None = None
    details: bytes | None = None

    @property
    def version(self) -> tuple[int, int, int, int]:
        """What orders two statuses of one job: the larger is the newer."""
        return (self.replay, self.attempt, self.rank, self.sequence)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.state in TERMINAL

    @property
    def key(self) -> bytes:
        """The record's key: the job id, with the group before it where a shadow group ran the job."""
        return status_key(self.id, group=self.group if self.shadow else None)


def status_key(job_id: str, *, group: str | None = None) -> bytes:
    """Key of a status record; `group` only for a shadow group."""
    return (f"{group}/{job_id}" if group is not None else job_id).encode()


SCHEMA: dict[str, Any] = load_schema("job_status.avsc")

# Read without logical types: integers stay integers, which is twice as fast as datetimes.
_OWN = AvroReader(without_logical_types(SCHEMA))
SYMBOLS: dict[str, int] = {state.value: place for place, state in enumerate(State)}
_STATES_IN_ORDER = tuple(State)
_STATES: dict[str, State] = {state.value: state for state in State}
_FIELDS: tuple[str, ...] = tuple(field["name"] for field in SCHEMA["fields"])

SchemaLookup = Callable[[int], "dict[str, Any] | None"]


class InvalidStatus(ValueError):
    """A record of the status topic that is no status: other framing, unknown schema, or broken Avro."""


class UnknownSchemaId(InvalidStatus):
    """The value's schema id is not known here (yet): read the schema topic again, then try once more."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not registered")
        self.schema_id = schema_id


class StatusCodec:
    """Status records under the schema id that the registry gave `SCHEMA`.

    Values of other ids (an older or newer logqueue wrote them) are read through their own schema, which
    `schema_of(id)` has to know; Avro's resolution rules fill what is missing.
    """

    def __init__(self, schema_id: int, *, schema_of: SchemaLookup | None = None) -> None:
        self.schema_id = schema_id
        self.header = frame_header(schema_id)
        """The frame that begins each value."""
        self._schema_of = schema_of
        self._readers: dict[int, AvroReader] = {}

    def encode(self, status: JobStatus) -> bytes:
        """The framed value of a status."""
        return self.header + encode_status(status, SYMBOLS)

    def decode(self, value: bytes) -> JobStatus:
        """The status of a framed value; InvalidStatus says why it is none."""
        return self.read(value, _make_status)

    def read(self, value: bytes, make: Callable[..., T]) -> T:
        """What `make` makes of the fields of a value, given in the order of the schema; otherwise as `decode`."""
        if value[:HEADER_BYTES] == self.header:
            return read_own(value, make)
        try:
            schema_id, body = read_frame(value)
        except InvalidFrame as error:
            raise InvalidStatus(str(error)) from None
        return make(*_read(bytes(body), self._reader(schema_id), _OWN.schema))

    def _reader(self, schema_id: int) -> AvroReader:
        if schema_id not in self._readers:
            schema = self._schema_of(schema_id) if self._schema_of is not None else None
            if schema is None:
                raise UnknownSchemaId(schema_id)
            try:
                self._readers[schema_id] = AvroReader(without_logical_types(schema))
            except Exception as error:  # whatever a walk through what is no Avro schema ends in
                raise InvalidStatus(f"schema id {schema_id} is not that of a status: {error!r}") from None
        return self._readers[schema_id]


def read_own(value: bytes, make: Callable[..., T]) -> T:
    """As `StatusCodec.read`, of a value that is known to be framed and of `SCHEMA`."""
    try:
        fields = decode_fields(value, HEADER_BYTES, _STATES_IN_ORDER)
    except NOT_FOR_US:
        return make(*_read(value[HEADER_BYTES:], _OWN, None))
    return make(*fields)


def _read(body: bytes, read: AvroReader, wanted: Any) -> Sequence[Any]:
    """The fields of any status, in the order of the schema."""
    try:
        record: Any = read(body, wanted)
        record["state"] = _STATES[record["state"]]
        if (error := record["error"]) is not None:
            record["error"] = StatusError(error["type"], error["message"], error["class"])
        return [record[name] for name in _FIELDS]
    except Exception as error:  # whatever a reading of broken bytes ends in
        raise InvalidStatus(f"not a job status: {error!r}") from None


def _make_status(*fields: Any) -> JobStatus:
    """Of the fields in the order of the schema, whose names are those of the attributes."""
    return JobStatus(**dict(zip(_FIELDS, fields, strict=True)))
