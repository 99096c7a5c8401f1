"""The gate that knows jobs again: idempotency keys, unique jobs, and records that a producer has written twice. No IO.

| what comes                                 | what becomes of the later record                             |
|--------------------------------------------|--------------------------------------------------------------|
| one of the last `REMEMBERED_IDS` ids again | finished without a status: the first one's stands            |
| a job sent round again twice as one replay | the same: two operators have asked for it at once            |
| a key again, same arguments                | the same                                                     |
| an id or a key again, other arguments      | dead letter of class `conflict`; the first is untouched      |
| another tenant's id                        | the same                                                     |
| a unique job whose place is taken          | cancelled, `details.duplicate_of`; or it replaces the other  |

A node of a workflow is no double of what came under its id before: its owner writes it once, and waits for its end.

Queues without keys and unique jobs cost the memory of ids and nothing else: a shard's index is read when its first key
or unique job comes, and the jobs of that shard wait meanwhile, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog
from logqueue_schemas.job_status import State

from logqueue.clock import Clock
from logqueue.jobs.errors import ErrorClass, InvalidHeader
from logqueue.jobs.headers import has_origin, read_origin
from logqueue.jobs.topics import TopicKind, TopicNames
from logqueue.jobs.unique import KEY_WINDOW_S, KeyConflict, argument_digest, key_place
from logqueue_consumers.gates import Finish, Hold, Verdict
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import LiveRules, Outcome
from logqueue_consumers.partitions.shard import Shard
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.uniqueness.index import Claim, Claimant, Fate, Holder, Judgement, UniqueIndex, Written
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

JOBS = TopicKind.JOBS  # what hangs on an enumeration is looked up by a function of Python

REMEMBERED_IDS: Final = 4_096
"""Ids of one topic's partition that are known at least; at most twice as many, about 200 bytes each."""
KEY_WINDOW_MS: Final = round(KEY_WINDOW_S * 1000)
NOTE: Final = "unique"
EVICTIONS_TOLD: Final = 1_000


class IdMemory:
    """The last ids of a partition with offset and hash of the content: two generations of a dict, no list to keep."""

    __slots__ = ("before", "now")

    def __init__(self) -> None:
        self.now: dict[str, tuple[int, int]] = {}
        self.before: dict[str, tuple[int, int]] = {}


class ShardPlaces:
    """What the gate keeps for a shard: which windows its index was read for, and the jobs that hold places now."""

    __slots__ = ("claims", "ended_meanwhile", "index", "is_loaded", "windows")

    def __init__(self) -> None:
        self.index = UniqueIndex()
        self.is_loaded = False
        self.windows: dict[str, PartitionWindow] = {}
        self.claims: dict[Job, tuple[Claimant, list[Claim]]] = {}
        self.ended_meanwhile: set[str] = set()
        """Places of jobs that ended while the topic was read."""

    def end(self, claimant: Claimant, claims: list[Claim], outcome: Outcome) -> list[Written]:
        """What is to be written with the outcome."""
        if not self.is_loaded:
            self.index.claim(claimant, claims)
            for claim in claims:
                self.ended_meanwhile.add(claim.place)
                if (holder := self.index.holder(claim.place)) is not None:
                    holder.is_written = True  # as far as one can know: then its end is written too
        return self.index.ended(claimant, claims, outcome.state, at_ms=outcome.at_us // 1000, due_ms=outcome.due_ms)

    def load(self, records: Iterable[tuple[str, bytes | None]]) -> None:
        """Know what the topic says, less what has changed since it was read."""
        index, before = UniqueIndex(), self.index
        for place, value in records:
            try:
                index.load(place, value)
            except (ValueError, RecursionError) as error:
                log.warning("no record of a taken place", place=place[:100], error=str(error))
        for place in self.ended_meanwhile:
            index.override(place, before.holder(place))
        for claimant, claims in self.claims.values():
            index.claim(claimant, claims)
        self.index = index
        self.is_loaded = True

    def is_current(self, job: Job) -> bool:
        """Whether no other worker may have owned the job's partition since the index was read."""
        partition = job.partition
        return self.is_loaded and self.windows.setdefault(partition.topic, partition.window) is partition.window


class UniqueGate:
    """One for a worker. `load` asks for a shard's records, which come back through `loaded`; `review` asks the engine
    to look at waiting jobs again, `recheck` at those that wait for a reason."""

    def __init__(
        self,
        rules: LiveRules,
        names: TopicNames,
        group: str,
        *,
        clock: Clock,
        load: Callable[[Shard], None],
        recheck: Callable[[object], None],
        replaced: Callable[[], None],
        first_use: Callable[[UniqueGate], None],
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._names = names
        self._group = group
        self._load = load
        self._recheck = recheck
        self._replaced = replaced
        self._first_use: Callable[[UniqueGate], None] | None = first_use
        self._loading: set[Shard] = set()

    @property
    def is_loading(self) -> bool:
        """Whether jobs wait for a topic that is being read."""
        return any(shard.partitions for shard in self._loading)  # some may be gone since

    def check(self, job: Job) -> Verdict | None:
        """Whether the job is another one's double, or may go on."""
        definition = job.definition
        if definition is None or job.problem is not None:
            return None
        headers, partition = job.headers, job.partition
        if headers.replay and partition.kind is TopicKind.RETRY and self._is_known_round(job):
            log.info("job sent round twice", id=job.id, replay=headers.replay, offset=job.offset)
            return _silent(Outcome.of(job, State.CANCELLED, self._clock.time_ms() * 1000, finishes=True))
        if definition.unique is not None or headers.idempotency_key is not None:
            return self._check_places(job, self._clock.time_ms())
        if self._loading and partition.shard in self._loading:
            return Hold((NOTE, partition.shard.id))
        id_ = headers.id
        if id_ is None or partition.kind is not JOBS or headers.attempt != 1 or headers.replay:
            return None
        if headers.workflow is not None:
            return None  # its owner puts a node on the log once: the id came with another workflow, long ago
        notes = partition.shard.notes
        memory = notes.get(partition.topic)
        if memory is None:
            memory = notes[partition.topic] = IdMemory()
        if id_ in memory.now or id_ in memory.before:
            found = memory.now.get(id_) or memory.before[id_]
            return None if found[0] == job.offset else self._check_double(job, found, self._clock.time_ms())
        memory.now[id_] = (job.offset, hash(job.record.value) ^ hash(job.tenant))  # as `_content`, for every job
        if len(memory.now) > REMEMBERED_IDS:
            memory.before, memory.now = memory.now, {}
        return None

    @staticmethod
    def _is_known_round(job: Job) -> bool:
        """Whether an operator's record of this replay came before; what workers put there has an attempt or a time."""
        headers = job.headers
        if headers.attempt != 1 or headers.not_before_ms is not None:
            return False
        memory: IdMemory = job.partition.shard.notes.setdefault(job.partition.topic, IdMemory())
        name = f"{job.id}/{headers.replay}"
        found = memory.now.get(name) or memory.before.get(name)
        if found is None:
            memory.now[name] = (job.offset, 0)
            if len(memory.now) > REMEMBERED_IDS:
                memory.before, memory.now = memory.now, {}
        return found is not None and found[0] != job.offset

    def _check_double(self, job: Job, found: tuple[int, int], now_ms: int) -> Verdict | None:
        """The id came before in this topic, with another record."""
        if has_origin(job.record.headers):
            return None  # the job was away and comes back
        if found[1] != _content(job):
            what = f"the id {job.id!r} came before at offset {found[0]}, for another tenant or"
            return self._conflict(job, what, now_ms, is_silent=True)
        log.info("record written twice", id=job.id, topic=job.partition.topic, offset=job.offset, first=found[0])
        return _silent(Outcome.of(job, State.CANCELLED, now_ms * 1000, finishes=True))

    def _check_places(self, job: Job, now_ms: int) -> Verdict | None:
        shard = job.partition.shard
        places: ShardPlaces | None = shard.notes.get(NOTE)
        if places is None or (places.is_loaded and not places.is_current(job)):
            self._begin_loading(shard, places)
            return Hold((NOTE, shard.id))
        if not places.is_loaded:
            return Hold((NOTE, shard.id))
        known = places.claims.get(job)
        claimant, claims = known if known is not None else (_claimant(job, now_ms), _claims(job))
        verdict = places.index.claim(claimant, claims)
        if verdict.fate is Fate.TAKES:
            places.claims[job] = (claimant, claims)
            if verdict.holder is not None:
                self._replaced()
            return None
        if verdict.fate is Fate.PASSES:
            return None
        return self._refuse(job, verdict, now_ms)

    def _refuse(self, job: Job, verdict: Judgement, now_ms: int) -> Verdict:
        holder = verdict.holder
        assert holder is not None, "another job is why"
        is_same_id = holder.id == job.id
        if verdict.fate is Fate.CONFLICTS:
            key = job.headers.idempotency_key
            return self._conflict(
                job, f"idempotency key {key!r} came before (job {holder.id})", now_ms, is_silent=is_same_id
            )
        outcome = Outcome.of(job, State.CANCELLED, now_ms * 1000, finishes=True)
        if verdict.fate is Fate.SAME and is_same_id:
            return _silent(outcome)
        name = "replaced_by" if verdict.fate is Fate.REPLACED else "duplicate_of"
        _tell(job, {name: holder.id} | _policy(job, verdict))
        return Finish(outcome)

    def _conflict(self, job: Job, what: str, now_ms: int, *, is_silent: bool) -> Verdict:
        error = KeyConflict(f"{what} with other arguments")
        log.warning("conflict", id=job.id, type=job.type, tenant=job.tenant, message=str(error))
        outcome = self._rules.dead(job, error, ErrorClass.CONFLICT, now_us=now_ms * 1000)
        outcome.is_silent = is_silent
        return Finish(outcome)

    # --- the index of a shard ---

    def _begin_loading(self, shard: Shard, before: ShardPlaces | None) -> None:
        if self._first_use is not None:
            first_use, self._first_use = self._first_use, None
            first_use(self)
        places = ShardPlaces()
        if before is not None:
            # The shard came back. Jobs that run since before hold their places; the others come again.
            places.claims = {
                job: claimed for job, claimed in before.claims.items() if job.partition.carried.get(job.offset) is job
            }
        places.windows = {partition.topic: partition.window for partition in shard.partitions}
        shard.notes[NOTE] = places
        self._loading = {loading for loading in self._loading if loading.partitions} | {shard}
        self._load(shard)

    def loaded(self, shard: Shard, records: Sequence[tuple[str, bytes | None]]) -> None:
        """The records of a shard's places, in the order of the log."""
        places: ShardPlaces | None = shard.notes.get(NOTE)
        if places is None or places.is_loaded or not shard.partitions:
            return
        windows = {partition.topic: partition.window for partition in shard.partitions}
        if any(places.windows.get(topic) is not window for topic, window in windows.items()):
            places.windows = windows  # there was a rebalance meanwhile: another worker may have written since
            self._load(shard)
            return
        self._loading.discard(shard)
        places.load(records)
        self._recheck((NOTE, shard.id))

    def ended(self, job: Job, outcome: Outcome) -> None:
        """What the index has to keep of a job whose record is finished goes with that outcome."""
        if not outcome.finishes:
            return
        places: ShardPlaces | None = job.partition.shard.notes.get(NOTE)
        claimed = places.claims.pop(job, None) if places is not None else None
        if places is None or claimed is None:
            return
        shard = job.partition.shard.id
        if written := places.end(*claimed, outcome):
            topic = self._names.unique(shard.queue, self._group)
            outcome.add_records(
                Outgoing(topic, shard.number, record.place.encode(), record.value, timestamp_ms=outcome.at_us // 1000)
                for record in written
            )
        if (evicted := places.index.evicted_count) and evicted % EVICTIONS_TOLD == 1:
            log.warning("places forgotten early: there are too many", queue=shard.queue, count=evicted)


class ReplacedGate:
    """Ends jobs that wait in memory and whose place a later job has taken. Only for apps that replace."""

    def check(self, job: Job, now_ms: int) -> Verdict | None:
        """Whether the job's place is another's now."""
        definition = job.definition
        if definition is None or definition.unique is None or definition.unique.on_conflict != "replace":
            return None
        places: ShardPlaces | None = job.partition.shard.notes.get(NOTE)
        claimed = places.claims.get(job) if places is not None else None
        if places is None or claimed is None:
            return None
        for claim in claimed[1]:
            holder = None if claim.is_key else places.index.is_replaced(claimed[0], claim)
            if holder is not None:
                return _replaced(job, holder, now_ms)
        return None


def _replaced(job: Job, holder: Holder, now_ms: int) -> Finish:
    _tell(job, {"replaced_by": holder.id})
    return Finish(Outcome.of(job, State.CANCELLED, now_ms * 1000, finishes=True))


def _content(job: Job) -> int:
    """What tells another job of the same id from a record that was written twice."""
    return hash(job.record.value) ^ hash(job.tenant)


def _silent(outcome: Outcome) -> Finish:
    outcome.is_silent = True
    return Finish(outcome)


def _tell(job: Job, details: dict[str, Any]) -> None:
    job.details = {**(job.details or {}), **details}


def _policy(job: Job, verdict: Judgement) -> dict[str, Any]:
    unique = job.definition.unique if job.definition is not None else None
    if verdict.fate is not Fate.LOSES or unique is None or verdict.holder is None:
        return {}
    policy: dict[str, Any] = {"on_conflict": unique.on_conflict}
    if unique.on_conflict == "existing":
        policy["existing_created_ms"] = verdict.holder.created_ms
    return policy


def _claimant(job: Job, now_ms: int) -> Claimant:
    origin = job.origin
    if job.partition.kind is TopicKind.JOBS and has_origin(job.record.headers):
        try:
            origin = read_origin(job.record.headers) or origin
        except InvalidHeader:
            origin = job.origin
    return Claimant(
        id=job.id,
        topic=origin.topic,
        offset=origin.offset,
        created_ms=min(job.created_ms, now_ms),
        has_begun=job.attempt > 1 or job.headers.replay > 0,
    )


def _claims(job: Job) -> list[Claim]:
    definition, key = job.definition, job.headers.idempotency_key
    assert definition is not None and job.arguments is not None, "only a job without a problem asks"
    claims: list[Claim] = []
    if key is not None:
        digest = argument_digest(job.record.value)
        place = key_place(job.tenant, definition.type, key)
        claims.append(Claim(place=place, window_ms=KEY_WINDOW_MS, digest=digest))
    if (unique := definition.unique) is not None:
        claims.append(
            Claim(
                place=unique.place(definition.type, job.tenant, job.arguments),
                window_ms=unique.window_ms,
                lasting=unique.lasting,
                on_conflict=unique.on_conflict,
            )
        )
    return claims
