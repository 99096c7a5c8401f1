"""Sends workflows, waits for them and cancels them. Shell over aiokafka; the connection is that of a JobClient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from logqueue.clock import Clock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.argument_schema import framed
from logqueue.jobs.connection import READ_WAIT_MS, new_reader, start_client, stop_client
from logqueue.jobs.errors import BrokerUnreachable, JobTooLarge, SendFailed, WaitTimeout
from logqueue.jobs.flow_records import (
    CANCEL,
    CONFLICT,
    FLOW,
    NODE,
    CancelOrder,
    Counts,
    Flow,
    FlowState,
    NodeSpec,
    Submission,
    decode_flow,
    decode_node,
    decode_submission,
    encode,
    key_of,
    split_key,
)
from logqueue.jobs.flows import WorkflowHandle, WorkflowState, flow_records
from logqueue.jobs.handle import JobHandle
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.unique import KeyConflict
from logqueue.jobs.watcher import CLOCK_MARGIN_MS

if TYPE_CHECKING:
    from logqueue.ids import JobId
    from logqueue.jobs.argument_schema import ArgumentSchema
    from logqueue.jobs.client import JobClient

log = structlog.get_logger(__name__)

STATUS_TIMEOUT_S = 10.0
ENVELOPE_BYTES = 512
"""What a node's record has besides its job, at most for usual names."""


class FlowClient:
    """The workflows of one app or API."""

    def __init__(self, client: JobClient, *, clock: Clock) -> None:
        self._client = client
        self._settings = client.settings
        self._topic = client.settings.topics.flows
        self._clock = clock
        self._partitions = 0

    async def with_schema(self, spec: NodeSpec, schema: ArgumentSchema) -> NodeSpec:
        """The node as it may be sent: the schema of its job is registered, and its frame has the id of that."""
        return framed(spec, await self._client.schema_id(schema))

    async def send(self, flow: str, submission: Submission, nodes: Mapping[str, NodeSpec]) -> None:
        """Put the records on the log; the owner begins when the last one is there."""
        for queue, priority in {(spec.queue, spec.priority): None for spec in nodes.values()}:
            await self._client.ready(queue, priority)
        records = flow_records(flow, submission, nodes)
        for key, value in records:
            if len(key) + len(value) + ENVELOPE_BYTES > self._settings.max_record_bytes:
                raise JobTooLarge(
                    f"Node {split_key(key)[2]!r} of workflow {flow} is {len(value):,} bytes; at most "
                    f"{self._settings.max_record_bytes:,} are sent. Store the data elsewhere, send a reference to it."
                )
        await self._write(records, tenant=submission.tenant, what=f"Workflow {flow}")

    async def cancel(self, flow: str, *, tenant: str, by: str) -> None:
        """Ask the owner to cancel a workflow."""
        order = CancelOrder(by=by, at=self._clock.time_ms(), tenant=tenant)
        await self._write([(key_of(CANCEL, flow), encode(order))], tenant=tenant, what=f"The cancelling of {flow}")

    async def wait(self, handle: WorkflowHandle, *, timeout_s: float) -> WorkflowState:
        """The final state; WaitTimeout after `timeout_s`, KeyConflict if the id is another tenant's."""
        reading = _Reading(handle)
        try:
            async with asyncio.timeout(timeout_s), self._reader(handle) as (reader, at):
                while not reading.is_over:
                    reading.take((await reader.getmany(at, timeout_ms=1_000)).get(at, ()))
        except TimeoutError:
            raise WaitTimeout(
                f"Workflow {handle.id} has not ended within {timeout_s:g} s: {reading.describe()}"
            ) from None
        except KafkaError as error:
            raise BrokerUnreachable(f"{self._settings.bootstrap} gave no states of workflows: {error!r}") from None
        state = reading.state() if reading.is_whole else await self.status(handle)
        assert state is not None, "it is over"
        return state

    async def status(self, handle: WorkflowHandle) -> WorkflowState | None:
        """How far it is at this moment; KeyConflict if the id is another tenant's."""
        reading = await self._read(handle)
        if not reading.is_whole:
            reading = await self._read(msgspec.structs.replace(handle, created_ms=reading.created_ms))
        return reading.state()

    async def _read(self, handle: WorkflowHandle) -> _Reading:
        """What the records say that stand there now."""
        reading = _Reading(handle)
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S), self._reader(handle) as (reader, at):
                end = (await reader.end_offsets([at]))[at]
                while await reader.position(at) < end:
                    reading.take((await reader.getmany(at, timeout_ms=READ_WAIT_MS)).get(at, ()))
        except TimeoutError:
            raise BrokerUnreachable(
                f"{self._settings.bootstrap} gave no states within {STATUS_TIMEOUT_S:g} s"
            ) from None
        except KafkaError as error:
            raise BrokerUnreachable(f"{self._settings.bootstrap} gave no states of workflows: {error!r}") from None
        return reading

    def job_handle(self, flow: WorkflowHandle, job_id: JobId, *, queue: str) -> JobHandle:
        """The handle of a node's job; where it will lie is not known."""
        return JobHandle(
            id=job_id,
            type="",
            queue=queue,
            tenant=flow.tenant,
            topic="",
            partition=-1,
            offset=-1,
            created_ms=flow.created_ms,
            client=self._client,
        )

    async def _partition(self, tenant: str) -> int:
        if not self._partitions:
            names = self._settings.topics
            made = await ensure_topics(self._settings, [names.status_spec(), names.flows_spec()])
            self._partitions = made[self._topic]
        return partition_of(tenant.encode(), self._partitions)

    async def _write(self, records: Sequence[tuple[bytes, bytes]], *, tenant: str, what: str) -> None:
        """Write records to the tenant's partition in order, whole batches at a time."""
        partition = await self._partition(tenant)
        producer = await self._client.producer()
        now_ms = self._clock.time_ms()
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                position = 0
                while position < len(records):
                    batch = producer.create_batch()
                    while position < len(records):
                        key, value = records[position]
                        if batch.append(timestamp=now_ms, key=key, value=value, headers=[]) is None:
                            break
                        position += 1
                    # One batch after the other: the last record must not be there without those before it.
                    await (await producer.send_batch(batch, self._topic, partition=partition))
        except TimeoutError:
            raise SendFailed(self._client.unconfirmed(what)) from None
        except MessageSizeTooLargeError as error:
            self._client.discard_producer(producer)
            raise JobTooLarge(f"{what} has a node that is larger than {self._topic} takes: {error}") from None
        except KafkaError as error:
            self._client.discard_producer(producer)
            raise SendFailed(f"{what} was not taken by {self._topic}: {error!r}") from None

    @asynccontextmanager
    async def _reader(self, handle: WorkflowHandle) -> AsyncIterator[tuple[AIOKafkaConsumer, TopicPartition]]:
        at = TopicPartition(self._topic, await self._partition(handle.tenant))
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            reader.assign([at])
            since_ms = max(0, handle.created_ms - CLOCK_MARGIN_MS)
            # The end comes first: a record that is written between the two questions must not lie before it.
            end = (await reader.end_offsets([at]))[at]
            found = (await reader.offsets_for_times({at: since_ms}))[at]
            reader.seek(at, found.offset if found is not None else end)
            yield reader, at
        finally:
            await stop_client(reader, timeout_s=2.0)


class _Reading:
    """What the records of one workflow say, as far as they were read."""

    def __init__(self, handle: WorkflowHandle) -> None:
        self._id = handle.id
        self._tenant = handle.tenant
        self._since_ms = handle.created_ms
        self._is_refused = False
        self._flow: Flow | None = None
        self._nodes: dict[str, str] = {}

    def take(self, records: Sequence[Any]) -> None:
        for record in records:
            kind, flow, node = split_key(record.key or b"")
            if flow != self._id or record.value is None:
                continue
            try:
                if kind == FLOW:
                    self._take_flow(decode_flow(record.value))
                elif kind == CONFLICT and node == self._tenant:
                    self._is_refused |= decode_submission(record.value).created_ms >= self._since_ms
                elif kind == NODE:
                    self._nodes[node] = decode_node(record.value).state
            except (ValueError, RecursionError) as error:
                log.warning("no record of a workflow", topic=record.topic, offset=record.offset, error=str(error))

    def _take_flow(self, flow: Flow) -> None:
        if flow.tenant == self._tenant:  # another tenant's of the same id is none of our business
            self._flow = flow

    @property
    def is_over(self) -> bool:
        return self._is_refused if self._flow is None else self._flow.is_over

    @property
    def created_ms(self) -> int:
        """When the workflow was sent first, as far as is known."""
        return self._flow.created_ms if self._flow is not None else self._since_ms

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it stands before what is read: it does where the handle is of one that was sent again."""
        return self.created_ms >= self._since_ms

    def describe(self) -> str:
        state = self.state()
        if state is None:
            return "no worker has taken it up"
        return f"it is {state.state}, {state.counts.ended} of {state.counts.total} nodes have ended"

    def state(self) -> WorkflowState | None:
        flow = self._flow
        if flow is None:
            if self._is_refused:
                raise KeyConflict(
                    f"Workflow {self._id} did not run: its id is taken by another tenant's; send it under another id"
                )
            return None
        return WorkflowState(
            id=self._id,
            name=flow.name,
            state=flow.state,
            counts=flow.counts if flow.is_over else self._counts(flow),
            nodes=self._nodes,
            reason=flow.reason,
        )

    def _counts(self, flow: Flow) -> Counts:
        counts = Counts(total=max(flow.counts.total, len(self._nodes)))
        for state in self._nodes.values():
            if state == FlowState.SUCCEEDED:
                counts.succeeded += 1
            elif state == FlowState.CANCELLED:
                counts.cancelled += 1
            elif state not in ("blocked", "queued"):
                counts.failed += 1
        return counts
