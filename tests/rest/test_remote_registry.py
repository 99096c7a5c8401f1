"""A registry elsewhere instead of the schema topic: another API's `/registry` stands for it. On every engine."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from logqueue_schemas.framing import read_frame

from logqueue import App
from logqueue.jobs.errors import RegistrationFailed, RegistryUnreachable
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.remote_registry import RemoteRegistry
from logqueue.jobs.schema_rules import SchemaRefused, job_subject
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings
from tests.conftest import Engine
from tests.consumers.conftest import Log, working
from tests.rest.conftest import ApiProcess

EMAIL: dict[str, Any] = {"type": "record", "name": "Email", "fields": [{"name": "to", "type": "string"}]}
WIDER = {**EMAIL, "fields": [*EMAIL["fields"], {"name": "cc", "type": "string", "default": ""}]}


class CountingRegistry:
    """The little of a registry that a worker asks for; it counts its ids from 1, and wants a name and a password."""

    def __init__(self) -> None:
        self.versions: dict[str, list[int]] = {}
        self.schemas: list[Any] = []
        self.asked: list[str | None] = []
        self.is_broken = False

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.is_broken:
            return 500, {"error_code": 50001, "message": "broken"}
        missing = 404, {"error_code": 40401, "message": "missing"}
        match [method, *path.strip("/").split("/")]:
            case ["GET", "schemas", "ids", number] if int(number) <= len(self.schemas):
                return 200, {"schema": json.dumps(self.schemas[int(number) - 1])}
            case ["GET", "subjects", subject, "versions"] if subject in self.versions:
                return 200, list(range(1, len(self.versions[subject]) + 1))
            case ["GET", "subjects", subject, "versions", number]:
                return 200, self._document(subject, int(number))
            case ["POST", "subjects", subject, "versions"]:
                self.schemas.append(json.loads(body["schema"]))
                self.versions.setdefault(subject, []).append(len(self.schemas))
                return 200, {"id": len(self.schemas)}
            case ["POST", "subjects", subject]:
                for number, schema_id in enumerate(self.versions.get(subject, ()), 1):
                    if self.schemas[schema_id - 1] == json.loads(body["schema"]):
                        return 200, self._document(subject, number)
        return missing

    def _document(self, subject: str, number: int) -> dict[str, Any]:
        schema_id = self.versions[subject][number - 1]
        schema = json.dumps(self.schemas[schema_id - 1])
        return {"subject": subject, "version": number, "id": schema_id, "schema": schema}


@contextmanager
def serving(registry: CountingRegistry) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            registry.asked.append(self.headers.get("Authorization"))
            body = json.loads(self.rfile.read(length)) if length else None
            status, document = registry.answer(self.command, self.path, body)
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_client_of_a_registry_elsewhere_works_with_our_own_api(api: ApiProcess, prefix: str) -> None:
    async def main() -> None:
        settings = Settings(schema_registry_url=f"{api.url}/registry", topic_prefix=prefix)
        one, two = RemoteRegistry(settings), RemoteRegistry(settings)
        subject = job_subject(settings.topics, queue="emails", type_="email/send")
        made = await one.register(subject, EMAIL)
        assert await two.register(subject, EMAIL) == made
        assert await two.check(subject, WIDER) is None
        assert (await two.register(subject, WIDER)).version == 2
        with pytest.raises(SchemaRefused):
            await one.register(subject, {**EMAIL, "fields": [{"name": "to", "type": "int"}]})
        assert [version.version for version in await one.versions(subject)] == [1, 2]
        assert subject in await one.subjects()
        three = RemoteRegistry(settings)
        assert three.decoder_of(made.id) is None
        await three.refresh()
        assert three.schema_of(made.id) == EMAIL
        assert (await three.status_codec()).schema_id > 0

    asyncio.run(main())


def test_jobs_run_with_the_ids_that_a_registry_elsewhere_counts(engine: Engine, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "email.avsc"
    path.write_text(json.dumps(EMAIL))

    async def main(url: str) -> None:
        settings = Settings(
            bootstrap=engine.bootstrap,
            topic_prefix=prefix,
            schema_registry_url=url,
            schema_registry_user="me",
            schema_registry_password="secret",
        )
        log = Log(settings, prefix)
        app = App(prefix, settings=settings)

        @app.job("email.send", queue="emails", arguments=path)
        async def send(ctx, to):  # type: ignore[no-untyped-def]
            if to == "Ann":
                ctx.send(send.prepare(to="Bob"))
            return to

        async with working(app):
            job = await send.send(to="Ann")
            assert (await job.wait(timeout=60)).result == "Ann"
            flow = await app.workflow("w").add("a", send.prepare(to="Cid")).send()
            assert (await flow.wait(timeout=60)).state == "succeeded"
        records = await log.read(settings.topics.jobs("emails"))
        assert len(records) == 3
        [schema_id] = {read_frame(record.value)[0] for record in records}
        assert registry.schemas[schema_id - 1] == EMAIL
        own = SchemaRegistry(settings)
        await own.refresh()
        assert own.table.subjects() == [], "the log's own topic is not used"
        await app.close()

    registry = CountingRegistry()
    with serving(registry) as url:
        asyncio.run(main(url))
    assert set(registry.asked) == {"Basic bWU6c2VjcmV0"}


def test_a_registry_that_fails_is_named(prefix: str) -> None:
    async def main(url: str) -> None:
        registry = open_registry(Settings(schema_registry_url=url))
        fake.is_broken = True
        with pytest.raises(RegistryUnreachable, match="answers 500"):
            await registry.register("s", EMAIL)
        assert registry.schema_of(1) is None
        with pytest.raises(RegistryUnreachable):
            await registry.refresh()
        fake.is_broken = False
        fake.schemas.append(EMAIL)
        await registry.refresh()
        assert registry.schema_of(1) == EMAIL, "an id that could not be fetched is asked for again"

    async def away(url: str) -> None:
        with pytest.raises(RegistryUnreachable, match="does not answer"):
            await open_registry(Settings(schema_registry_url=url)).subjects()

    fake = CountingRegistry()
    with serving(fake) as url:
        asyncio.run(main(url))
    asyncio.run(away(url))


def test_a_registry_that_refuses_is_told_apart_from_one_that_is_away() -> None:
    class Refusing(CountingRegistry):
        def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
            return 401, {"error_code": 401, "message": "who are you"}

    with serving(Refusing()) as url, pytest.raises(RegistrationFailed, match="who are you"):
        asyncio.run(open_registry(Settings(schema_registry_url=url)).subjects())
