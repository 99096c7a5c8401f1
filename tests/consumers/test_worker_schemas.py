"""Jobs with an Avro schema or a model go all the way; a schema that must not follow stops the worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from logqueue_schemas.avro import content_id
from logqueue_schemas.framing import read_frame
from logqueue_schemas.job_status import SCHEMA, SUBJECT_SUFFIX

from logqueue import App
from logqueue.jobs.errors import InvalidArguments, RegistrationFailed
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.schema_rules import SchemaRefused, job_subject
from logqueue.jobs.schema_source import open_registry
from tests.consumers.conftest import Log, working

EMAIL: dict[str, Any] = {"type": "record", "name": "Email", "fields": [{"name": "to", "type": "string"}]}


class Order(msgspec.Struct):
    number: int


def avsc(path: Path, *more: dict[str, Any]) -> Path:
    path.write_text(json.dumps({**EMAIL, "fields": [*EMAIL["fields"], *more]}))
    return path


def mailer(app: App, path: Path, handler: Callable[..., Any]) -> Any:
    return app.job("email.send", queue="emails", arguments=path)(handler)


def test_avro_jobs_are_sent_framed_and_their_follow_ups_too(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        app = log.app()

        async def send(to):  # type: ignore[no-untyped-def]
            return to

        email = mailer(app, avsc(tmp_path / "email.avsc"), send)

        @app.job("order")
        async def order(ctx, order: Order) -> int:  # type: ignore[no-untyped-def]
            ctx.send(email.prepare(to=f"order {order.number}"))
            return order.number

        async with working(app):
            one = await email.send(to="Ann")
            [two, three] = await app.send_many([email.prepare(to="Bob"), email.with_(tenant="t").prepare(to="Cid")])
            four = await order.send(Order(5))
            found = {status.id: status.result for status in await log.terminal(count=5)}
        assert [found[job.id] for job in (one, two, three, four)] == [b'"Ann"', b'"Bob"', b'"Cid"', b"5"]
        assert b'"order 5"' in found.values()
        records = await log.read(log.settings.topics.jobs("emails"))
        assert len(records) == 4
        assert {read_frame(record.value)[0] for record in records} == {content_id(EMAIL)}
        assert {dict(record.headers)["content-type"] for record in records} == {b"application/avro"}
        subject = job_subject(log.settings.topics, queue="emails", type_="email.send")
        assert [one.version for one in await open_registry(log.settings).versions(subject)] == [1]
        await app.close()

    asyncio.run(main())


def test_json_of_a_foreign_producer_is_held_to_the_schema(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        app = log.app()

        async def send(to):  # type: ignore[no-untyped-def]
            return to

        mailer(app, avsc(tmp_path / "email.avsc"), send)
        topic, headers = log.settings.topics.jobs("emails"), [("ce_type", b"email.send")]
        async with working(app):
            await log.produce(topic, b'{"to":"Ann"}', headers=headers)
            await log.produce(topic, b'{"to":7}', headers=headers)
            found = await log.terminal(count=2)
        assert sorted(str(status.state) for status in found) == ["dead", "succeeded"]

    asyncio.run(main())


def test_a_worker_reads_what_was_sent_under_the_schema_before(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        old = log.app()
        sent = mailer(old, avsc(tmp_path / "old.avsc"), lambda to: to)
        await sent.send(to="Ann")
        await old.close()
        new = log.app()
        added = {"name": "cc", "type": "string", "default": "none"}

        async def send(to, cc):  # type: ignore[no-untyped-def]
            return [to, cc]

        mailer(new, avsc(tmp_path / "new.avsc", added), send)
        async with working(new):
            [status] = await log.terminal(count=1)
        assert status.result == b'["Ann","none"]'

    asyncio.run(main())


def test_a_worker_whose_schema_cannot_read_older_jobs_does_not_start(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        old = log.app()
        await mailer(old, avsc(tmp_path / "old.avsc"), lambda to: to).send(to="Ann")
        await old.close()
        new = log.app()
        changed = mailer(new, avsc(tmp_path / "new.avsc", {"name": "cc", "type": "string"}), lambda to, cc: to)
        with pytest.raises(SchemaRefused) as refused:
            async with working(new):
                pytest.fail("it started")
        text = str(refused.value)
        assert "emails-email.send' is not BACKWARD_TRANSITIVE compatible" in text
        assert "field 'cc': it has no default" in text
        assert "version 1" in text
        with pytest.raises(SchemaRefused):
            await changed.send(to="Ann", cc="Bob")
        assert len(await log.read(log.settings.topics.jobs("emails"))) == 1
        await new.close()

    asyncio.run(main())


def test_a_schema_too_large_to_be_compared_is_told_and_does_not_start(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logqueue_schemas.compatibility.MAX_COMPARISONS", 1)

    async def main() -> None:
        old = log.app()
        await mailer(old, avsc(tmp_path / "old.avsc"), lambda to: to).send(to="Ann")
        await old.close()
        new, told = (
            log.app(),
            "emails-email.send' cannot be compared with the versions that are registered: the schemas",
        )
        added = {"name": "cc", "type": "string", "default": "none"}
        changed = mailer(new, avsc(tmp_path / "new.avsc", added), lambda to, cc: to)
        with pytest.raises(RegistrationFailed, match=told):
            async with working(new):
                pytest.fail("it started")
        with pytest.raises(RegistrationFailed, match=told):
            await changed.send(to="Ann", cc="Bob")
        await new.close()

    asyncio.run(main())


def test_a_worker_whose_statuses_older_readers_could_not_read_does_not_start(log: Log) -> None:
    """FULL_TRANSITIVE: the version before lacks nothing that the new one wants, but wants what the new one lacks."""
    older = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "lost", "type": "string"}]}

    async def main() -> None:
        subject = log.settings.topics.status + SUBJECT_SUFFIX
        await SchemaRegistry(log.settings).register(subject, older)
        app = log.app()

        @app.job("n")
        async def n() -> None: ...

        with pytest.raises(SchemaRefused, match=r"FULL_TRANSITIVE.*field 'lost'.*version 1 cannot read"):
            async with working(app):
                pytest.fail("it started")

    asyncio.run(main())


def test_workflows_carry_avro_jobs(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        app = log.app()

        async def send(to):  # type: ignore[no-untyped-def]
            return to

        email = mailer(app, avsc(tmp_path / "email.avsc"), send)
        async with working(app):
            flow = app.workflow("two").add("a", email.prepare(to="Ann")).add("b", email.prepare(to="Bob"), after="a")
            handle = await flow.send()
            assert (await handle.wait(timeout=60)).state == "succeeded"
        await app.close()

    asyncio.run(main())


def test_a_schema_has_to_keep_its_subjects_level_wherever_it_is_registered(log: Log) -> None:
    async def main() -> None:
        registry = SchemaRegistry(log.settings)
        subject = job_subject(log.settings.topics, queue="emails", type_="t")
        await registry.register(subject, EMAIL)
        assert await registry.check(subject, {**EMAIL, "fields": []}) is None
        for schema in ({**EMAIL, "name": "Other"}, {**EMAIL, "fields": [{"name": "to", "type": "int"}]}):
            with pytest.raises(SchemaRefused):
                await registry.register(subject, schema)
        assert len(await registry.versions(subject)) == 1

    asyncio.run(main())


def test_a_follow_up_of_another_app_with_a_schema_is_refused(log: Log, tmp_path: Path) -> None:
    async def main() -> None:
        other = App("other", settings=log.settings)
        email = mailer(other, avsc(tmp_path / "email.avsc"), lambda to: to)
        app = log.app()

        @app.job("order")
        async def order(ctx) -> str:  # type: ignore[no-untyped-def]
            try:
                ctx.send(email.prepare(to="Ann"))
            except InvalidArguments as error:
                return str(error)
            return "sent"

        async with working(app):
            await order.send()
            [status] = await log.terminal(count=1)
        assert b"belongs to another app" in (status.result or b"")
        await app.close()

    asyncio.run(main())
