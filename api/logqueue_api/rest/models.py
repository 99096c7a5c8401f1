"""Bodies of requests and answers, as OpenAPI shows them. Requests are read with these; answers are built by hand."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from logqueue.jobs.headers import MAX_TYPE_CHARS
from logqueue.jobs.job_ids import MAX_ID_CHARS
from logqueue.jobs.partitioning import MAX_TENANT_CHARS

TypeName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TYPE_CHARS)]
QueueName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
Tenant = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TENANT_CHARS)]
JobIdText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS)]
DurationText = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Annotated[str, StringConstraints(max_length=40)]


class NoFields(BaseModel):
    """Nothing to say."""

    model_config = ConfigDict(extra="forbid")


class JobRequest(BaseModel):
    """A job to be put on the log."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"type": "email.send", "tenant": "acme", "args": {"to": "a@b.c", "body": "hi"}}]
        },
    )

    type: TypeName | None = Field(None, description="Job type; may be left out where `queue` has a default type.")
    queue: QueueName | None = Field(None, description="Needed only where several queues run this type.")
    tenant: Tenant | None = Field(None, description="Jobs of one tenant stay in order. Default: `default`.")
    args: dict[str, JsonValue] = Field(default_factory=dict, description="The handler's keyword arguments.")
    id: JobIdText | None = Field(None, description="Your own id for the job. Default: a UUIDv7.")
    delay: DurationText | None = Field(None, description="Not before this long from now: seconds, or text like `10m`.")
    run_at: AwareDatetime | None = Field(None, description="Not before this time (excludes `delay`).")
    expires_in: DurationText | None = Field(None, description="Not begun any more after this long from now.")
    expires_at: AwareDatetime | None = Field(None, description="Not begun any more after this time.")
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=255, description="The same key (of a tenant, queue and type) is the same job."
    )
    priority: str | None = Field(None, max_length=32, description="A priority class of the queue.")


class BatchRequest(BaseModel):
    """Jobs to be put on the log together: all are checked before the first is sent."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[JobRequest] = Field(min_length=1)


class Receipt(BaseModel):
    """A job that is durable on the log, and where. `position` is what `min_position` takes."""

    id: str
    type: str
    queue: str
    tenant: str
    topic: str
    partition: int
    offset: int
    position: str
    created_at: str
    duplicate: bool | None = Field(None, description="True: the idempotency key came before, nothing was sent.")
    job: JobDocument | None = Field(None, description="Of a duplicate: the job as it is now, its result included.")


class BatchReceipt(BaseModel):
    """Receipts in the order of the request."""

    items: list[Receipt]
    min_position: str = Field(description="Pass it as `min_position` to read a view that holds all of them.")


class JobError(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(populate_by_name=True)

    type: str
    message: str
    class_: str = Field(alias="class")


class JobDocument(BaseModel):
    """A job and how far it has come. Times are RFC 3339 in UTC."""

    id: str
    type: str | None
    queue: str
    tenant: str
    state: str = Field(
        description="scheduled, blocked, queued, running, retrying, succeeded, dead, parked, cancelled, expired"
    )
    condition: str | None = Field(
        None, description="lost: it is running, but its worker is gone (it runs again); stuck: it runs past its time."
    )
    attempt: int
    replay: int = Field(description="How often an operator sent it round again.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    due_at: str | None
    expires_at: str | None
    updated_at: str
    result: Any | None
    error: JobError | None
    topic: str
    partition: int
    offset: int
    group: str | None = Field(description="Consumer group that ran it.")
    shadow: str | None = Field(description="Replay group whose run this is; null for the live run.")
    worker: str | None
    details: dict[str, Any] = Field(description="What few jobs have: progress, log lines, workflow, ...")


class JobPage(BaseModel):
    """Jobs, newest first. A page may be short and still have a `next_cursor`; null means the end."""

    items: list[JobDocument]
    next_cursor: str | None


class QueueDocument(BaseModel):
    """A queue and its jobs by state."""

    queue: str
    topic: str
    counts: dict[str, int]
    total: int
    incomplete: int
    lost: int = Field(description="Of those running: their worker is gone, they run again.")
    stuck: int = Field(description="Of those running: they run past their time.")
    oldest_queued_at: str | None
    oldest_queued_age_s: float | None
    types: list[str]
    default_type: str | None


class QueueList(BaseModel):
    """All queues, by name."""

    items: list[QueueDocument]


LAG = (
    "Offsets from the commit to the end; 0 once everything has run. What no worker has read yet counts with the "
    "markers of transactions."
)
INCOMPLETE = "The lag less what is finished above the commit."


class PartitionProgress(BaseModel):
    """How far a group has come in one partition."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int = Field(description=LAG)
    incomplete: int = Field(description=INCOMPLETE)


class GroupDocument(BaseModel):
    """A consumer group, its lag, and what it has not finished."""

    group: str
    state: str
    protocol_type: str
    members: int
    lag: int = Field(description=LAG)
    incomplete: int = Field(description=INCOMPLETE)
    queues: list[str]
    oldest_queued_at: str | None
    oldest_queued_age_s: float | None
    partitions: list[PartitionProgress]


class WorkerJob(BaseModel):
    """A job that a worker runs, of those it has run for longest."""

    id: str
    type: str | None
    started_at: str
    deadline_at: str | None


class WorkerDocument(BaseModel):
    """A worker process as it told of itself last."""

    worker: str
    app: str
    group: str
    state: str = Field(description="running, draining, stuck (there is work and no progress), or lost (not heard of)")
    problem: str | None
    host: str
    pid: int
    instance_id: str | None
    started_at: str
    last_seen_at: str
    last_seen_s: float
    queues: list[str]
    concurrency: int
    running: int
    ready: int
    delayed: int
    held: int
    unfinished: int
    lag: int
    done: int
    succeeded: int
    dead: int
    retried: int
    interrupted: int
    load: float = Field(description="Share of the concurrency in use.")
    partitions: dict[str, list[int]]
    breakers: dict[str, str] = Field(description="closed, open or half-open, by name")
    versions: dict[str, str]
    oldest: list[WorkerJob]


class WorkerList(BaseModel):
    """Workers heard of within the last hour, by group and host. One that ended in good order is not listed."""

    items: list[WorkerDocument]


class GroupSummary(BaseModel):
    """A consumer group's name and kind."""

    group: str
    protocol_type: str


class GroupList(BaseModel):
    """All consumer groups, by name."""

    items: list[GroupSummary]


class TopicDocument(BaseModel):
    """A topic. `kind`: jobs, retry, dlq, parked, status, control, schemas, or null for one that is not ours."""

    topic: str
    kind: str | None
    queue: str | None
    group: str | None
    partitions: int


class TopicList(BaseModel):
    """All topics, by name."""

    items: list[TopicDocument]


class PartitionBounds(BaseModel):
    """A partition: the offset of its first record, and the one that its next record gets."""

    partition: int
    start: int
    end: int


class TopicBounds(BaseModel):
    """A topic and where its partitions start and end."""

    topic: str
    partitions: list[PartitionBounds]


class RecordHeader(BaseModel):
    """A header of a record."""

    name: str
    value: str


class RecordDocument(BaseModel):
    """A record of the log. `value_format`: json, avro, text, base64 or null."""

    offset: int
    timestamp: str | None
    key: str | None
    headers: list[RecordHeader]
    value: Any | None
    value_format: str | None
    size: int


class RecordPage(BaseModel):
    """Records of one partition, oldest first."""

    topic: str
    partition: int
    start: int = Field(description="The first offset that the log still holds.")
    end: int = Field(description="The offset after the last one.")
    items: list[RecordDocument]
    next_offset: int


class DeadLetterQueue(BaseModel):
    """A dead-letter topic and the letters in it; they are null where it is too long to be counted."""

    queue: str
    group: str
    topic: str
    open: int | None = Field(description="Letters neither replayed nor discarded.")
    letters: int | None
    offsets: int = Field(description="From the topic's start to its end: letters, and markers of transactions.")


class DeadLetterQueueList(BaseModel):
    """All dead-letter topics."""

    items: list[DeadLetterQueue]


class LetterOrigin(BaseModel):
    """Where the job's first record is."""

    topic: str
    partition: int | None
    offset: int | None


class DeadLetterDocument(BaseModel):
    """A job that a group gave up, with the reason. `value` only where one job's letters are asked for."""

    id: str
    type: str | None
    queue: str
    tenant: str
    group: str
    attempt: int
    replay: int
    is_open: bool = Field(description="Neither replayed nor discarded.")
    status: str = Field(description="open, replayed, discarded")
    system: str | None = Field(description="Who wrote it, if not logqueue: spring, connect, streams, share-group.")
    died_at: str
    first_failed_at: str | None
    error: JobError | None
    origin: LetterOrigin | None
    topic: str
    partition: int
    offset: int
    size: int
    preview: str
    headers: dict[str, str]
    value: Any | None = None
    value_format: str | None = None


class DeadLetterList(BaseModel):
    """Dead letters."""

    items: list[DeadLetterDocument]


class DeadLetterReplay(BaseModel):
    """What a replay did, would do, or has done so far: an operation too (`/v1/operations/{id}`)."""

    id: str
    state: str = Field(description="running, done, stopped (too many failed again)")
    detail: str | None = Field(description="Why it stopped.")

    queue: str
    group: str
    matched: int
    replayed: int
    dry_run: bool
    ended: int | None = Field(None, description="Left alone by a filter: their jobs have succeeded since.")
    own: list[str] = Field([], description="Ids under which the first conflicts run, as jobs of their own.")
