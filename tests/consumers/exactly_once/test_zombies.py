"""A worker that is frozen while the group goes on cannot write when it wakes: fenced by epoch and generation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from logqueue.jobs.job_ids import JobId
from tests.consumers.conftest import Log, until
from tests.consumers.exactly_once.children import Child, check_all_once, offsets_of, runs, wait_for
from tests.consumers.exactly_once.frozen_child import make_app

JOBS = 600
TENANTS = 20


async def send(log: Log, side: Path, numbers: range) -> dict[JobId, tuple[str, int]]:
    app = make_app(log.name, log.settings, side)
    work = app.jobs["work"]
    try:
        handles = await app.send_many(work.prepare(tenant=f"t{n % TENANTS}", n=n) for n in numbers)
    finally:
        await app.close()
    return {handle.id: (f"t{n % TENANTS}", n) for n, handle in zip(numbers, handles, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_zombie_cannot_commit_what_another_worker_has_done(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"
    topic = log.settings.topics.jobs("first")

    async def main() -> None:
        sent = await send(log, side, range(JOBS))
        zombie = Child(log, side)
        children = [zombie]
        try:
            await wait_for(lambda: len(runs(side)) > JOBS // 4)
            Path(f"{side}.freeze").write_text("EndTxnRequest")
            await zombie.frozen()
            before = len(runs(side))
            heir = Child(log, side)
            children.append(heir)
            await until(lambda: log.done(log.name, "first"), lambda done: done >= JOBS, patience_s=60)
            assert {pid for _, pid in runs(side)[before:]} == {heir.pid}
            committed = await offsets_of(log, topic)
            sent |= await send(log, side, range(JOBS, JOBS + 100))
            zombie.go_on()
            await wait_for(lambda: len({n for n, _ in runs(side)}) == len(sent))
            await log.terminal(count=len(sent))
            # It is a member again only after it was told that it is none any more.
            await wait_for(lambda: zombie.text().count("partitions assigned") >= 2)
            after = await offsets_of(log, topic)
            assert all(after[partition] >= offset for partition, offset in committed.items()), (
                "offsets do not move back"
            )
            await zombie.stopped()
            await heir.stopped()
        finally:
            for child in children:
                child.kill()
        await check_all_once(log, sent)
        print("HEIR", children[1].text())

    asyncio.run(main())
