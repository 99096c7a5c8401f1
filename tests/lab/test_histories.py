"""Generated histories: jobs are sent, fail, hang and are cancelled, workers crash, come and go, and time passes.

Real workers on the embedded log, through the lab. Whatever happened, in the end every job has ended exactly once, with
its attempts counted, in its tenant's order, within its limits, never early. LOGQUEUE_HISTORIES (a number) looks at more
of them, with seeds of their own, and LOGQUEUE_HISTORY_STEPS at longer ones; what fails is made smaller then.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from logqueue_consumers.lab.job_lab import JobLab, lab_broker

from logqueue import App, Limit, Retry
from tests.lab.history import ATTEMPTS, FIRST_RETRY_MS, RUNNING_LIMIT, TIMEOUT_MS, History, Run, Sent, plain, shown

EXAMPLES = 8
STEPS = int(os.environ.get("LOGQUEUE_HISTORY_STEPS", "16"))
MORE = int(os.environ.get("LOGQUEUE_HISTORIES", "0"))
PHASES = (Phase.generate, Phase.shrink) if MORE else (Phase.generate,)
"""A history takes seconds: to make a failing one smaller takes more time than a test has."""
MAX_WORKERS = 3
LAST_STEPS = 12

tenants = st.sampled_from(["a", "b"])
queues = st.sampled_from(["ordered", "limited"])
plans = st.lists(st.sampled_from(["ok", "fail", "hang"]), max_size=3)
delays = st.sampled_from([0, 0, 0, 5, 120, 7200])
jobs = st.tuples(queues, tenants, plans, delays)


class Histories(RuleBasedStateMachine):
    """One history; `bootstrap` is a log that histories share."""

    bootstrap = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.history = History()
        self.plans: dict[int, list[str]] = {}
        self.released = asyncio.Event()
        self.app = self._app()
        self.lab = JobLab(self.app, bootstrap=self.bootstrap, patience="30ms")
        self.is_open = False

    @initialize()
    def open(self) -> None:
        self.runner.run(self.lab.__aenter__())
        self.is_open = True

    def _app(self) -> App:
        app = App("histories")
        app.queue("ordered", order="tenant", partitions=2)
        app.queue("limited", order="none", partitions=2, limits=[Limit(by="tenant", running=RUNNING_LIMIT)])
        for queue in ("ordered", "limited"):
            app.job(
                f"{queue}.work",
                queue=queue,
                timeout=TIMEOUT_MS / 1000,
                retry=Retry(ATTEMPTS, first=FIRST_RETRY_MS / 1000, jitter=0.0, crashes=50),
            )(self._handler())
        return app

    def _handler(self) -> Any:
        async def work(ctx: Any, *, number: int) -> dict[str, int]:
            history, plan = self.history, self.plans[number]
            run = Run(number, ctx.attempt, self.lab.clock.time_ms(), history.tick())
            history.runs.append(run)
            history.sent[number].runs.append(run)
            step = plan.pop(0) if plan else "ok"
            try:
                if step == "hang":
                    await self.released.wait()
                run.how = "fail" if step == "fail" else "ok"
            except asyncio.CancelledError:
                run.how = "cancelled"
                raise
            finally:
                run.ended_ms, run.ended_at = self.lab.clock.time_ms(), history.tick()
            if step == "fail":
                raise ConnectionError("planned")
            return {"number": number}

        return work

    @rule(jobs=st.lists(jobs, min_size=1, max_size=4))
    def submit(self, jobs: list[tuple[str, str, list[str], int]]) -> None:
        self.runner.run(self.app.send_many([self._prepare(*job) for job in jobs]))

    def _prepare(self, queue: str, tenant: str, plan: list[str], delay: int) -> Any:
        number = len(self.history.sent)
        self.plans[number] = list(plan)
        now_ms = self.lab.clock.time_ms()
        job = self.app.jobs[f"{queue}.work"].with_(tenant=tenant, **({"delay": delay} if delay else {}))
        prepared = job.prepare(number=number)
        self.history.sent[number] = Sent(
            number=number,
            id=str(prepared.id),
            queue=queue,
            tenant=tenant,
            not_before_ms=now_ms + delay * 1000,
            is_delayed=delay > 0,
            crashes_before=self.history.crashes,
        )
        return prepared

    @rule()
    def settle(self) -> None:
        self.runner.run(self.lab.advance(0))

    @rule(seconds=st.sampled_from([1, 9, 15, 300, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.runner.run(self.lab.advance(seconds))

    @rule()
    def release(self) -> None:
        self.runner.run(self._release())

    async def _release(self) -> None:
        self.released.set()
        await asyncio.sleep(0)
        self.released.clear()

    @rule(place=st.integers(0, MAX_WORKERS - 1), replaced=st.booleans())
    def crash(self, place: int, replaced: bool) -> None:
        workers = self.lab.workers
        self.history.crashes += 1
        is_last = len(workers) == 1
        self.runner.run(self.lab.crash_worker(workers[place % len(workers)], replace=replaced or is_last))

    @precondition(lambda self: self.is_open and len(self.lab.workers) < MAX_WORKERS)
    @rule()
    def join(self) -> None:
        self.history.rebalances += 1
        self.runner.run(self.lab.start_worker())

    @precondition(lambda self: self.is_open and len(self.lab.workers) > 1)
    @rule(place=st.integers(0, MAX_WORKERS - 1), hurry=st.booleans())
    def leave(self, place: int, hurry: bool) -> None:
        workers = self.lab.workers
        self.history.rebalances += 1
        self.runner.run(self.lab.stop_worker(workers[place % len(workers)], hurry=hurry))

    @precondition(lambda self: self.is_open and self.history.sent)
    @rule(place=st.integers(0, 100))
    def cancel(self, place: int) -> None:
        sent = list(self.history.sent.values())
        chosen = sent[place % len(sent)]
        chosen.is_cancelled = True
        self.runner.run(self.lab.cancel(chosen.id))

    def teardown(self) -> None:
        try:
            if self.is_open:
                self.runner.run(self._finish())
        finally:
            if self.is_open:
                self.runner.run(self.lab.__aexit__(None, None, None))
            self.runner.close()

    async def _finish(self) -> None:
        """Nothing hangs any more and time passes: everything has to end."""
        for plan in self.plans.values():
            plan[:] = ["ok" if step == "hang" else step for step in plan]
        for _ in range(LAST_STEPS):
            await self._release()
            await self.lab.advance("30m")
        found = plain(await self.lab.jobs())
        problems = self.history.problems(found)
        assert not problems, "\n".join([*problems, shown(self.history, found)])


@pytest.mark.timeout(0 if MORE else 120)
def test_whatever_happens_every_job_ends_once_in_order_within_its_limits() -> None:
    with lab_broker() as broker:
        machine = type("SharedHistories", (Histories,), {"bootstrap": broker.bootstrap})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=MORE or EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=not MORE,
                deadline=None,
                database=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
