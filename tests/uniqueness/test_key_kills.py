"""kill -9 of a worker among jobs with idempotency keys that were each sent three times: each has one outcome."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.consumers.conftest import Log, until
from tests.uniqueness import keys_child

KEYS = 150
COPIES = 3
PATIENCE_S = 60.0


def test_each_key_has_one_outcome_and_only_jobs_in_flight_run_again(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"
    command = [sys.executable, keys_child.__file__, log.settings.bootstrap, log.name, str(side), str(tmp_path)]

    async def main() -> None:
        app = keys_child.make_app(log.name, log.settings, str(side))
        job = app.jobs["work"]
        numbers = [n for n in range(KEYS) for _ in range(COPIES)]
        random.Random(7).shuffle(numbers)
        sent = await app.send_many(job.with_(tenant=f"t{n % 9}", idempotency_key=f"k{n}").prepare(n=n) for n in numbers)
        await app.close()
        worker = subprocess.Popen(command)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(side.read_text().split()) < KEYS // 2:
                    assert worker.poll() is None, "the worker ended by itself"
                    await asyncio.sleep(0.01)
            worker.kill()
            worker.wait()
            ended = {status.id for status in await log.statuses() if status.is_terminal}
            worker = subprocess.Popen(command)
            await until(
                lambda: log.done(log.name, keys_child.QUEUE), lambda done: done >= KEYS * COPIES, patience_s=PATIENCE_S
            )
        finally:
            worker.terminate()
            worker.wait(20)
        ends = Counter(status.id for status in await log.statuses() if status.is_terminal)
        assert len(ends) == KEYS
        assert set(ends.values()) == {1}
        runs = Counter(int(line) for line in side.read_text().split())
        assert len(runs) == KEYS
        repeated = [n for n, count in runs.items() if count > 1]
        assert all(runs[n] == 2 for n in repeated)
        ids = {n: handle.id for n, handle in zip(numbers, sent, strict=True)}
        assert not [n for n in repeated if ids[n] in ended], (
            "what the log said to be over when the worker died ran again"
        )
        assert await log.read(log.settings.topics.dlq(keys_child.QUEUE, log.name)) == []

    asyncio.run(main())
