"""Workers on a log: what they tell of themselves, how they answer probes, and how they are missed."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from logqueue_consumers.heartbeats.beat import decode
from logqueue_consumers.heartbeats.health import HealthNotServed
from logqueue_consumers.heartbeats.tail import RosterTail
from logqueue_consumers.worker import Health

from logqueue import Retry
from logqueue.clock import SystemClock
from tests.consumers.conftest import FAST, Log, until, working

QUICK = replace(FAST, heartbeat_s=0.2, stuck_after_s=1.0)
PATIENT = replace(QUICK, stuck_after_s=60.0)  # where a worker must be found well, on a machine however slow


async def get(port: int, path: str = "/healthz") -> tuple[int, dict[str, Any]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


def test_a_worker_tells_of_itself_until_it_ends(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("mail", partitions=4)
        let_go = asyncio.Event()

        @app.job("send", queue="mail", timeout="1m")
        async def send(*, n: int) -> int:
            if n == 1:
                await let_go.wait()
            return n

        tail = RosterTail(log.settings)
        following = asyncio.create_task(tail.run())
        async with working(app, limits=QUICK) as running:
            name = running.metrics().worker
            await send.send(tenant="a", n=0)
            slow = await send.send(tenant="b", n=1)

            async def beat() -> Any:
                return tail.roster.get(name)

            found = await until(beat, lambda b: b is not None and b.running == 1 and b.succeeded == 1)
            assert (found.app, found.group, found.queues, found.concurrency) == (app.name, app.group, ("mail",), 100)
            assert found.partitions[log.settings.topics.jobs("mail")] == [0, 1, 2, 3]
            assert [(job.id, job.type) for job in found.oldest] == [(slow.id, "send")]
            assert found.oldest[0].deadline_at == pytest.approx(found.oldest[0].started_at + 60_000, abs=500)
            assert found.versions["logqueue"]
            let_go.set()
            await slow.wait(timeout=60)
        await until(beat, lambda b: b is None)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        records = await log.read(log.settings.topics.workers)
        assert records[-1].value is None, "a worker that ends in good order takes its name off the list"
        assert decode(records[0].value).pid == decode(records[-2].value).pid
        assert not [status for status in await log.statuses() if status.worker != name]

    asyncio.run(main())


def test_health_checks_answer_on_a_port_and_in_a_file(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("noop")
        async def noop() -> None: ...

        file = tmp_path / "health.json"
        health = Health(host="127.0.0.1", port=0, file=file)
        async with working(app, limits=PATIENT, health=health) as running:
            assert running.worker is not None and running.worker.health_port is not None
            status, document = await get(running.worker.health_port)
            assert (status, document["problem"], document["group"]) == (200, None, app.group)
            assert (await get(running.worker.health_port, "/other"))[0] == 404
            assert json.loads(file.read_text())["worker"] == running.metrics().worker
        assert not file.exists()

    asyncio.run(main())


def test_a_health_port_that_is_taken_is_told(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("noop")
        async def noop() -> None: ...

        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HealthNotServed, match=f"cannot listen on 127.0.0.1:{port}"):
            async with working(app, health=Health(host="127.0.0.1", port=port)):
                pass
        server.close()

    asyncio.run(main())


def test_threads_held_for_good_fail_the_health_check_and_use_up_no_attempts(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("plain", order="none", partitions=1)
        let_go = threading.Event()
        started: list[int] = []

        @app.job("block", queue="plain", timeout="300ms", retry=Retry(attempts=1))
        def block(*, n: int) -> int:
            started.append(n)
            let_go.wait(30)
            return n

        limits = replace(QUICK, threads=2)
        health = Health(host="127.0.0.1", port=0)
        try:
            async with working(app, limits=limits, health=health) as running:
                for n in range(4):
                    await block.send(n=n)
                assert running.worker is not None and running.worker.health_port is not None
                port = running.worker.health_port
                held = "hold all 2 threads"
                await until(lambda: get(port), lambda found: found[0] == 503 and held in found[1]["problem"])
                assert started == [0, 1], "the others wait for a thread and lose no attempt"
                let_go.set()
                await until(lambda: get(port), lambda found: found[0] == 200)
                states = await log.terminal(count=4)
                assert [str(status.state) for status in states].count("succeeded") == 2
        finally:
            let_go.set()

    asyncio.run(main())


def test_a_worker_that_lives_but_does_not_consume_says_so_until_it_does(log: Log) -> None:
    """Its fetches end without an answer, as after a broker's hiccup; heartbeats to the group go on."""

    async def main() -> None:
        app = log.app()
        app.queue("mail", partitions=1)

        @app.job("send", queue="mail")
        async def send(*, n: int) -> int:
            return n

        async with working(app, limits=QUICK, health=Health(host="127.0.0.1", port=0)) as running:
            assert running.worker is not None and running.worker.health_port is not None
            port, member = running.worker.health_port, running.worker._member
            assert member is not None and member._consumer is not None
            await (await send.send(n=1)).wait(timeout=60)
            fetch, is_deaf, is_asked = member._consumer.getmany, True, asyncio.Event()

            async def hang(*partitions: Any, **options: Any) -> Any:
                is_asked.set()
                if is_deaf:
                    await asyncio.sleep(0.05)
                    return {}
                return await fetch(*partitions, **options)

            member._consumer.getmany = hang
            async with asyncio.timeout(20):
                await is_asked.wait()  # The fetch that was under way is over: it could have brought the records.
            jobs = [await send.send(n=n) for n in (2, 3)]
            await until(lambda: get(port), lambda found: found[0] == 503 and "records wait" in found[1]["problem"])
            tail = RosterTail(log.settings)
            following = asyncio.create_task(tail.run())
            now_ms = SystemClock().time_ms

            async def problems() -> Any:
                return list(tail.roster.problems(now_ms()))

            found = await until(problems, bool)
            assert found[0][0] == running.metrics().worker
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            is_deaf = False
            for job in jobs:
                await job.wait(timeout=60)
            await until(lambda: get(port), lambda found: found[0] == 200)

    asyncio.run(main())


def test_an_idle_worker_is_healthy_and_the_log_confirms_it(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("noop")
        async def noop() -> None: ...

        async with working(app, limits=replace(QUICK, stuck_after_s=0.4)) as running:
            assert running.worker is not None
            watch = running.worker._watch
            assert watch is not None

            async def asked() -> Any:
                return watch._asked_at_s

            await until(asked, bool)
            seen = await watch._ask(0)
            assert (seen.available, seen.is_member, seen.log_error) == (0, True, None)

            async def problem() -> Any:
                assert running.worker is not None
                return running.worker.report()["problem"]

            await until(problem, lambda found: found is None)

    asyncio.run(main())
