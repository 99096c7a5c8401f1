"""After `kill -9`: a new worker goes on at once, and neither the group nor readers wait for the dead one.

The workers here have a session and a transaction timeout of two minutes, so what happens within BOUND_S is not theirs.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from logqueue_consumers.keeper.keepers import keepers_group
from logqueue_schemas.job_status import TERMINAL

from tests.consumers.conftest import Log, until
from tests.consumers.exactly_once import children
from tests.consumers.exactly_once.children import Child, check_all_once, runs, wait_for
from tests.consumers.exactly_once.frozen_child import make_app
from tests.consumers.exactly_once.test_zombies import TENANTS, send
from tests.wills.dying_child import WAIT_MS
from tests.workers.test_worker_command import roster

BOUND_S = 50.0
JOBS = 500


@pytest.fixture(autouse=True)
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "CHILD", Path(__file__).with_name("dying_child.py"))
    assert BOUND_S < WAIT_MS / 2_000


def name_of(child: Child) -> str:
    """What its heartbeats call it."""
    return f"{socket.gethostname()}:{child.pid}"


async def members(log: Log, group: str) -> list[str]:
    """The ids of a group's members."""
    admin = AIOKafkaAdminClient(bootstrap_servers=log.settings.bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_consumer_groups([group])
        return [member[0] for member in described.groups[0][5]]
    finally:
        await admin.close()


@asynccontextmanager
async def hidden_death(log: Log, side: Path, *more: str) -> AsyncIterator[Child]:
    """A worker of one queue is killed with its transaction open; gives the one of another queue, which lives."""
    dead, heir = Child(log, side, "first", *more), Child(log, side.with_name("heir"), "next")
    try:
        await asyncio.gather(dead.ready(), heir.ready())
        Path(f"{side}.freeze").write_text("EndTxnRequest")
        await send(log, side, range(TENANTS * 4))
        await dead.frozen()
        dead.kill()
        yield heir
    finally:
        dead.kill()
        heir.kill()


async def seen_after_death(log: Log, side: Path) -> None:
    """Send a job to the living worker for each tenant, and wait until readers of committed records see all ended."""
    app = make_app(log.name, log.settings, side)
    follow = app.jobs["follow"]
    try:
        ids = {(await follow.send(tenant=f"t{n}", n=n)).id for n in range(TENANTS)}
    finally:
        await app.close()

    async def ended() -> set[str]:
        return {status.id for status in await log.statuses() if status.state in TERMINAL}

    await until(ended, lambda found: ids <= found, patience_s=BOUND_S)


def test_a_new_worker_takes_over_from_a_killed_one_without_waiting_for_its_session(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"

    async def main() -> None:
        dead = Child(log, side, "all")
        heir = None
        try:
            async with roster(log) as tail:
                await dead.ready()
                await wait_for(lambda: tail.roster.get(name_of(dead)) is not None)
                sent = await send(log, side, range(JOBS))
                await wait_for(lambda: len(runs(side)) > JOBS // 4)
                dead.kill()
                assert len(runs(side)) < JOBS, "it was killed in the middle"
                heir = Child(log, side, "all")
                await until(lambda: log.done(log.name, "first"), lambda done: done >= JOBS, patience_s=BOUND_S)
                await wait_for(lambda: tail.roster.get(name_of(dead)) is None)
                assert tail.roster.get(name_of(heir)) is not None
                await until(lambda: log.done(log.name, "next"), lambda done: done >= JOBS)
                await heir.stopped()
        finally:
            for child in (dead, heir):
                if child is not None:
                    child.kill()
        await check_all_once(log, sent)

    asyncio.run(main())


def test_a_killed_worker_does_not_hide_what_others_ended(log: Log, tmp_path: Path) -> None:
    """Another worker of the machine ends its transaction, and takes it out of both of its groups."""
    side = tmp_path / "runs"

    async def main() -> None:
        async with hidden_death(log, side) as heir:
            await seen_after_death(log, side)
            for group in (log.name, keepers_group(log.settings)):
                await until(lambda group=group: members(log, group), lambda ids: len(ids) == 1, patience_s=BOUND_S)  # type: ignore[misc]
            await heir.stopped()

    asyncio.run(main())


def test_a_killed_static_member_hides_nothing_either_and_keeps_its_place(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"

    async def main() -> None:
        async with hidden_death(log, side, "mine"):
            await seen_after_death(log, side)
            assert len(await members(log, log.name)) == 2, "an instance id is for coming back"

    asyncio.run(main())
