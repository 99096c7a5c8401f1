"""Generated histories: jobs of all kinds are sent, fail, hang, snooze, are cancelled; workers crash, come and go."""

from __future__ import annotations

import asyncio
import gc
import traceback
import warnings
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from logqueue_consumers.lab.job_lab import JobLab

from logqueue import App, Limit, Retry, Unique
from logqueue.jobs.errors import Permanent, Snooze
from tests.lab.history import (
    ATTEMPTS,
    BURST,
    FIRST_RETRY_S,
    RATE_PER_S,
    RUNNING_LIMIT,
    SNOOZES_S,
    TIMEOUT_MS,
    Crash,
    History,
    Run,
    Sent,
    shown,
)

MAX_WORKERS = 3
LAST_STEPS = ("15m", "1h", "1h", "1h")
"""Longer than any job can take: three time-outs and two retries, or what is sent with the longest delay."""
CUT_TIMEOUT_S = 0.05
"""A worker that has nothing to say for so long is killed when it has nothing to say."""
DAYS_BACK = 30
"""Where the log refuses records from the future, histories play in the past."""

tenants = st.sampled_from(["a", "b"])
plans = st.lists(st.sampled_from(["ok", "fail", "fail", "hang", "fatal", *SNOOZES_S]), max_size=3)
delays = st.sampled_from([0, 0, 0, 0, 5, 120, 7200])
lives = st.sampled_from([None, None, None, None, 8, 900])
"""How long after the sending a job expires (s)."""
jobs = st.tuples(
    st.sampled_from(sorted(FIRST_RETRY_S)), tenants, plans, delays, lives, st.sampled_from([False, False, True])
)


class Histories(RuleBasedStateMachine):
    """One history; `bootstrap` is the log that histories share, `processing` what the workers promise."""

    bootstrap = ""
    processing = "exactly_once"
    is_in_past = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.history = History()
        self.plans: dict[int, list[str]] = {}
        self.keyed: dict[str, int] = {}
        self.released = asyncio.Event()
        self.app = self._app()
        now = datetime.now(UTC) - timedelta(days=DAYS_BACK) if self.is_in_past else None
        self.lab = JobLab(self.app, bootstrap=self.bootstrap, patience="20ms", now=now)
        self.is_open = False

    @initialize()
    def open(self) -> None:
        """The log is there, and one worker."""
        self._run(self.lab.__aenter__())
        self.is_open = True

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run it. What goes wrong is told at once: Hypothesis tries again, and the second time it may go well."""
        try:
            self.runner.run(work)
        except Exception:
            traceback.print_exc()
            raise

    def _app(self) -> App:
        app = App("histories", processing=self.processing)
        app.queue("ordered", order="tenant", partitions=2)
        limits = [Limit(by="tenant", running=RUNNING_LIMIT)]
        app.queue("limited", order="none", partitions=2, limits=limits, priorities={"high": 3, "normal": 1})
        app.queue("rated", order="none", partitions=2, limits=[Limit(by="tenant", rate=f"{RATE_PER_S}/s", burst=BURST)])
        app.queue("single", order="none", partitions=2)
        for queue, first_s in FIRST_RETRY_S.items():
            app.job(
                f"{queue}.work",
                queue=queue,
                timeout=TIMEOUT_MS / 1000,
                retry=Retry(ATTEMPTS, first=first_s, cap="1h", jitter=0.0, crashes=50),
                unique=Unique(fields=[]) if queue == "single" else None,
            )(self._handler())
        return app

    def _handler(self) -> Any:
        async def work(ctx: Any, *, number: int) -> dict[str, int]:
            history, plan = self.history, self.plans[number]
            step = plan.pop(0) if plan else "ok"
            run = Run(number, ctx.attempt, step, self.lab.clock.time_ms(), history.tick())
            history.runs.append(run)
            history.sent[number].runs.append(run)
            try:
                if step == "hang":
                    await self.released.wait()
            except asyncio.CancelledError:
                run.is_cancelled = True
                raise
            finally:
                run.ended_ms, run.ended_at = self.lab.clock.time_ms(), history.tick()
            if step == "fail":
                raise ConnectionError("planned")
            if step == "fatal":
                raise Permanent("planned")
            if step in SNOOZES_S:
                raise Snooze(SNOOZES_S[step])
            return {"number": number}

        return work

    # --- what happens ---

    @rule(jobs=st.lists(jobs, min_size=1, max_size=5))
    def submit(self, jobs: list[tuple[str, str, list[str], int, int | None, bool]]) -> None:
        """Jobs are sent at once."""
        self._run(self.app.send_many([self._prepare(*job) for job in jobs]))

    def _prepare(self, queue: str, tenant: str, plan: list[str], delay: int, life: int | None, is_flagged: bool) -> Any:
        """A job; a flagged one has a key that others have too, or a priority."""
        now_ms = self.lab.clock.time_ms()
        options: dict[str, Any] = {"delay": delay} if delay else {}
        if life is not None and life > delay:
            options["expires"] = life
        number = len(self.history.sent)
        if is_flagged and queue == "limited":
            options["priority"] = "high"
        elif is_flagged and queue == "ordered":
            options["idempotency_key"] = key = f"{tenant}/{now_ms // 43_200_000}"
            number = self.keyed.setdefault(key, number)
        prepared = self.app.jobs[f"{queue}.work"].with_(tenant=tenant, **options).prepare(number=number)
        if number not in self.history.sent:
            self.plans[number] = list(plan)
            self.history.sent[number] = Sent(
                number=number,
                id=str(prepared.id),
                queue=queue,
                tenant=tenant,
                not_before_ms=now_ms + delay * 1000,
                is_delayed=delay > 0,
                expires_ms=now_ms + life * 1000 if "expires" in options and life is not None else None,
            )
        return prepared

    @rule(seconds=st.sampled_from([0, 0, 1, 5, 9, 15, 300, 3600]))
    def pass_time(self, seconds: int) -> None:
        """Time passes, and everything that is due runs."""
        self._run(self.lab.advance(seconds))

    @rule()
    def release(self) -> None:
        """What hangs goes on."""
        self._run(self._release())

    async def _release(self) -> None:
        self.released.set()
        await asyncio.sleep(0)
        self.released.clear()

    @rule(place=st.integers(0, MAX_WORKERS - 1), writes=st.none() | st.integers(0, 20), is_replaced=st.booleans())
    def crash(self, place: int, writes: int | None, is_replaced: bool) -> None:
        """A worker is killed, at once or after one of the next things that it writes."""
        self._run(self._crash(place, writes, is_replaced))

    @precondition(lambda self: self.is_open and self.history.sent)
    @rule(
        jobs=st.lists(jobs, min_size=1, max_size=3),
        seconds=st.sampled_from([0, 5, 9, 15, 60, 90]),
        place=st.integers(0, MAX_WORKERS - 1),
        writes=st.integers(0, 20),
    )
    def crash_at_work(
        self, jobs: list[tuple[str, str, list[str], int, int | None, bool]], seconds: int, place: int, writes: int
    ) -> None:
        """Something is sent, something falls due, and a worker is killed over it."""
        self._run(self.app.send_many([self._prepare(*job) for job in jobs]))
        self._run(self._crash_at_work(seconds, place, writes))

    async def _crash_at_work(self, seconds: int, place: int, writes: int) -> None:
        self.lab.clock.move_to(self.lab.clock.time_ms() + seconds * 1000)
        for worker in self.lab.workers:
            if worker.keepers is not None:
                worker.keepers.wake()
        await self._crash(place, writes, is_replaced=True)

    async def _crash(self, place: int, writes: int | None, is_replaced: bool) -> None:
        workers = self.lab.workers
        worker = workers[place % len(workers)]
        if writes is not None:
            await worker.cut_after(writes, timeout_s=CUT_TIMEOUT_S)
        await self.lab.crash_worker(worker, replace=False)
        is_alone = len(workers) == 1
        crash = Crash(self.history.tick(), is_alone, {})
        self.history.crashes.append(crash)
        crash.written = {job.id: job.history for job in await self.lab.jobs()}
        if is_alone or is_replaced:
            if not is_alone:
                self.history.rebalances.append(self.history.tick())
            await self.lab.start_worker()

    @precondition(lambda self: self.is_open and len(self.lab.workers) < MAX_WORKERS)
    @rule()
    def join(self) -> None:
        """One more worker comes."""
        self.history.rebalances.append(self.history.tick())
        self._run(self.lab.start_worker())

    @precondition(lambda self: self.is_open and len(self.lab.workers) > 1)
    @rule(place=st.integers(0, MAX_WORKERS - 1), hurry=st.booleans())
    def leave(self, place: int, hurry: bool) -> None:
        """A worker goes in good order."""
        workers = self.lab.workers
        self.history.rebalances.append(self.history.tick())
        self._run(self.lab.stop_worker(workers[place % len(workers)], hurry=hurry))

    @precondition(lambda self: self.is_open and self.history.sent)
    @rule(place=st.integers(0, 100))
    def cancel(self, place: int) -> None:
        """Somebody cancels a job, whatever it does."""
        sent = list(self.history.sent.values())
        chosen = sent[place % len(sent)]
        chosen.is_cancelled = True
        self._run(self.lab.cancel(chosen.id))

    # --- the end ---

    def teardown(self) -> None:
        """Let everything end, and compare."""
        try:
            if self.is_open:
                self._run(self._finish())
        finally:
            if self.is_open:
                self._run(self.lab.__aexit__(None, None, None))
            self.runner.close()
            with warnings.catch_warnings():  # killed workers have closed nothing, and some of it outlives the lab
                warnings.simplefilter("ignore", ResourceWarning)
                del self.lab
                gc.collect()

    async def _finish(self) -> None:
        """Nothing hangs any more and time passes: everything has to end."""
        for plan in self.plans.values():
            plan[:] = ["ok" if step == "hang" else step for step in plan]
        for step in LAST_STEPS:
            await self._release()
            await self.lab.advance(step)
        found = {job.id: job for job in await self.lab.jobs()}
        problems = self.history.problems(found)
        assert not problems, "\n".join([*problems, shown(self.history, found)])
