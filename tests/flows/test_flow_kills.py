"""kill -9 of the process that owns a workflow, in the middle of it: every node is put on the log once, and all end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

from logqueue.jobs.flows import WorkflowHandle
from tests.consumers.conftest import Log
from tests.flows import flow_child

NODES = flow_child.LAYERS * flow_child.WIDTH
PATIENCE_S = 60.0


def test_a_workflow_survives_the_kill_of_its_owner_and_puts_no_node_on_the_log_twice(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"
    side.touch()

    def start(number: int) -> subprocess.Popen[bytes]:
        cache = tmp_path / f"cache-{number}"  # the next owner knows nothing but the topic
        return subprocess.Popen(
            [sys.executable, flow_child.__file__, log.settings.bootstrap, log.name, str(side), str(cache)]
        )

    async def main() -> None:
        app = flow_child.make_app(log.name, log.settings, str(side))
        handle = await flow_child.layered(app).send(tenant="acme")
        worker = start(0)
        try:
            await _until_runs(side, NODES // 3, worker)
            worker.kill()
            worker.wait()
            worker = start(1)
            state = (await handle.wait(timeout=PATIENCE_S)).raise_for_state()
            assert state.counts.succeeded == NODES
            await _check(log, handle)
        finally:
            worker.terminate()
            worker.wait(20)
            await app.close()

    asyncio.run(main())


async def _until_runs(side: Path, count: int, worker: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(side.read_text().split()) < count:
            assert worker.poll() is None, "the worker ended by itself"
            await asyncio.sleep(0.01)


async def _check(log: Log, handle: WorkflowHandle) -> None:
    records = await log.read(log.settings.topics.jobs(flow_child.QUEUE))
    released = Counter(dict(record.headers)["ce_id"].decode() for record in records)
    assert len(released) == NODES
    assert set(released.values()) == {1}
    last = handle.job(f"{flow_child.LAYERS - 1}-0")
    assert (await last.wait()).result == 2**flow_child.LAYERS - 1, "each node saw the results of both before it"
