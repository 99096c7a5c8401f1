"""A log of one partition for the flow machine: transactions that may be lost, compaction, workers that end jobs."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import msgspec
from logqueue_consumers.flows.machine import FlowMachine
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import Kept, Place
from logqueue_consumers.writing.outgoing import Outgoing
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, JobStatus, StatusCodec

from logqueue.jobs.flow_records import (
    CANCEL,
    FLOW,
    NODE,
    SPEC,
    SUBMIT,
    CancelOrder,
    Flow,
    Node,
    NodeSpec,
    OnFailure,
    Submission,
    decode_flow,
    decode_node,
    decode_spec,
    encode,
    end_record,
    key_of,
    split_key,
)
from logqueue.jobs.topics import TopicNames

NAMES = TopicNames()
CODEC = StatusCodec(content_id(SCHEMA))
PLACE = Place(topic=NAMES.flows, partition=0, partitions=4, count_of=lambda topic: 4)


def spec(after: Mapping[str, OnFailure] | None = None, *, is_callback: bool = False, value: bytes = b"{}") -> NodeSpec:
    return NodeSpec(type="work", queue="q", value=value, headers=[], after=dict(after or {}), is_callback=is_callback)


class World:
    """The partition's log, its owner, and what the owner has written elsewhere."""

    def __init__(self) -> None:
        self.log: list[Kept] = []
        self.jobs: list[str] = []
        """Nodes whose jobs were put on the log, in order."""
        self.headers: dict[str, dict[str, bytes]] = {}
        self.values: dict[str, bytes | None] = {}
        self.statuses: list[JobStatus] = []
        self.told: list[str] = []
        """Jobs that were told to cancel."""
        self.now_ms = 1_000_000
        self.read = 0
        self.machine = self._make()

    def _make(self) -> FlowMachine:
        self.index = Index.in_memory()
        self.read = 0
        return FlowMachine(self.index, PLACE, names=NAMES, encode_status=CODEC.encode)

    # --- what others write ---

    def append(self, key: bytes, value: bytes | None) -> None:
        self.log.append(Kept(key, value, offset=len(self.log), timestamp_ms=self.now_ms))

    def submit(
        self, flow: str, nodes: Mapping[str, NodeSpec], *, claims: int | None = None, tenant: str = "acme"
    ) -> None:
        for name, node in nodes.items():
            self.append(key_of(SPEC, flow, name), encode(node))
        submission = Submission(
            name="test",
            tenant=tenant,
            app="app",
            group="group",
            created_ms=self.now_ms,
            nodes=len(nodes) if claims is None else claims,
        )
        self.append(key_of(SUBMIT, flow), encode(submission))

    def end(self, flow: str, node: str, state: str, result: bytes | None = None) -> None:
        self.append(*end_record(flow, node, state=state, at_ms=self.now_ms, result=result))

    def cancel(self, flow: str, *, tenant: str | None = None) -> None:
        self.append(key_of(CANCEL, flow), encode(CancelOrder(by="me", at=self.now_ms, tenant=tenant)))

    # --- the owner ---

    def catch_up(self) -> None:
        with self.index.transaction():
            for record in self.log[self.read :]:
                self.machine.apply(record)
        self.read = len(self.log)

    def act(self, *, limit: int = 500, is_lost: bool = False) -> bool:
        """One transaction; a lost one leaves no trace. False when nothing was due."""
        self.catch_up()
        due_ms = self.machine.next_due()
        if due_ms is None or due_ms > self.now_ms:
            return False
        records = self.machine.due(self.now_ms, limit)
        assert records, "a machine that is due has something to write"
        if not is_lost:
            for record in records:
                self._commit(record)
        return True

    def settle(self) -> None:
        for _ in range(10_000):
            if not self.act():
                return
        raise AssertionError("the machine does not come to rest")

    def replace_owner(self, *, compacted: bool) -> None:
        """Another process takes over, from the topic alone."""
        if compacted:
            last = {record.key: record.offset for record in self.log}
            self.log = [
                record._replace(offset=place)
                for place, record in enumerate(r for r in self.log if last[r.key] == r.offset and r.value is not None)
            ]
        self.machine = self._make()

    def _commit(self, record: Outgoing) -> None:
        if record.topic == NAMES.flows:
            assert record.key is not None
            self.append(record.key, record.value)
        elif record.topic == NAMES.status:
            assert record.value is not None
            self.statuses.append(CODEC.decode(record.value))
        elif record.topic == NAMES.control:
            assert record.key is not None
            self.told.append(record.key.decode().removeprefix("cancel/"))
        else:
            headers = dict(record.headers)
            node = headers["job-workflow"].decode().split("/")[1]
            self.jobs.append(node)
            self.headers[node] = headers
            self.values[node] = record.value

    # --- what the log says now ---

    def flow(self, flow: str) -> Flow | None:
        found = [record for record in self.log if record.key == key_of(FLOW, flow)]
        return decode_flow(found[-1].value) if found and found[-1].value is not None else None

    def ends(self, flow: str) -> int:
        """In how many ways records say that the workflow is over."""
        return len(
            {
                record.value
                for record in self.log
                if record.key == key_of(FLOW, flow) and record.value and decode_flow(record.value).is_over
            }
        )

    def specs(self, flow: str) -> dict[str, NodeSpec]:
        """The nodes as the topic has them last."""
        last = {record.key: record.value for record in self.log}
        return {
            split_key(key)[2]: decode_spec(value)
            for key, value in last.items()
            if value is not None and key.startswith(key_of(SPEC, flow, ""))
        }

    def nodes(self, flow: str) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for record in self.log:
            kind, of, name = split_key(record.key)
            if kind == NODE and of == flow and record.value is not None:
                found[name] = decode_node(record.value)
        return found

    def pending(self) -> list[bytes]:
        """Orders that nobody has acted on."""
        last = {record.key: record.value for record in self.log}
        return [key for key, value in last.items() if value is not None and split_key(key)[0] in PENDING]

    def results(self, node: str) -> dict[str, object]:
        found: dict[str, object] = msgspec.json.decode(self.headers[node]["job-workflow-results"])
        return found


PENDING = frozenset({b"submit", b"event", b"add", b"cancel"})


def shuffled(names: list[str], seed: int) -> list[str]:
    mixed = list(names)
    Random(seed).shuffle(mixed)
    return mixed
