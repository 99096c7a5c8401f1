"""Schemas: what is registered, whether an app's may follow, and registering one by hand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.actor import actor, add_by
from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from logqueue_schemas.schema_records import Registration

    from logqueue.jobs.schema_source import Registry
    from logqueue.jobs.settings import Settings

CONNECT_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|check|register")
    ls = verbs.add_parser("ls", help="list subjects")
    add_stack(ls)
    show = verbs.add_parser("show", help="the schema of a subject")
    show.add_argument("subject", metavar="SUBJECT")
    show.add_argument("--version", type=int, help="this one instead of the latest")
    add_stack(show)
    check = verbs.add_parser("check", help="may the schemas of an app follow those that are registered?")
    check.add_argument("app", metavar="APP", help="package.module:name or path/to/file.py:name")
    add_stack(check)
    register = verbs.add_parser("register", help="register a schema under a subject")
    register.add_argument("subject", metavar="SUBJECT")
    register.add_argument("file", metavar="FILE", type=Path, help="an .avsc file, or a JSON Schema (.json)")
    add_by(register)
    add_stack(register)


def run(options: argparse.Namespace) -> int:
    from logqueue_api.cli import kafka

    verb = {"ls": _ls, "show": _show, "check": _check, "register": _register}[options.verb]
    stack = find_stack(options)
    return kafka.run(verb(stack, options, Output(is_json=options.json)))


async def _ls(stack: Any, options: argparse.Namespace, output: Output) -> int:
    registry, _ = _open(stack)
    items = []
    for subject in await registry.subjects():
        versions = await registry.versions(subject)
        if versions:  # the last may be gone by now
            items.append({"subject": subject, "versions": len(versions), "latest": versions[-1].version})
            items[-1]["id"] = versions[-1].id
    columns = [
        Column("subject", "SUBJECT"),
        Column("versions", "VERSIONS", right=True),
        Column("latest", "LATEST", right=True),
        Column("id", "ID", right=True),
    ]
    output.items(items, columns, empty="no schemas yet")
    return ExitCode.OK


async def _show(stack: Any, options: argparse.Namespace, output: Output) -> int:
    registry, _ = _open(stack)
    versions = await registry.versions(options.subject)
    if not versions:
        raise CommandError(f"there is no subject {options.subject!r}", code=ExitCode.NOT_FOUND)
    known = {version.version: version for version in versions}
    wanted = options.version if options.version is not None else versions[-1].version
    if wanted not in known:
        numbers = ", ".join(map(str, known))
        raise CommandError(
            f"subject {options.subject!r} has no version {wanted}", code=ExitCode.NOT_FOUND, hint=f"it has {numbers}"
        )
    found = known[wanted]
    schema = json.loads(found.schema)
    document = {"subject": found.subject, "version": found.version, "id": found.id}
    if output.is_json:
        output.document(document | {"schema": schema})
        return ExitCode.OK
    output.record(document)
    output.line()
    output.line(json.dumps(schema, indent=2, ensure_ascii=False))
    return ExitCode.OK


async def _check(stack: Any, options: argparse.Namespace, output: Output) -> int:
    """Every schema of the app and that of statuses beside what is registered; nothing is written."""
    from logqueue_schemas.avro import InvalidSchema
    from logqueue_schemas.job_status import SCHEMA, SUBJECT_SUFFIX

    from logqueue.jobs.schema_rules import SchemaRefused, job_subject
    from logqueue_api.cli.app_loading import load_app

    app = load_app(options.app)
    registry, settings = _open(stack)
    names = settings.topics
    wanted = {names.status + SUBJECT_SUFFIX: SCHEMA}
    for job in app.jobs.values():
        if job.codec.schema is not None:
            wanted[job_subject(names, queue=job.queue, type_=job.type)] = job.codec.schema.value
    items: list[dict[str, Any]] = []
    for subject, schema in wanted.items():
        item: dict[str, Any] = {"subject": subject, "verdict": "new", "conflicts": []}
        try:
            found = await registry.check(subject, schema)
            if found is not None:
                item["verdict"] = f"registered as version {found.version}"
        except SchemaRefused as refused:
            item |= {"verdict": f"not {refused.level.value} compatible", "conflicts": list(map(str, refused.conflicts))}
        except InvalidSchema as error:
            item |= {"verdict": "cannot be compared", "conflicts": [str(error)]}
        items.append(item)
    is_refused = any(item["conflicts"] for item in items)
    if output.is_json:
        output.document({"compatible": not is_refused, "items": items})
    else:
        for item in items:
            output.line(f"{item['subject']}: {item['verdict']}")
            for conflict in item["conflicts"]:
                output.line(f"  {conflict}")
    return ExitCode.FAILED if is_refused else ExitCode.OK


async def _register(stack: Any, options: argparse.Namespace, output: Output) -> int:
    from logqueue_schemas.avro import InvalidSchema
    from logqueue_schemas.kinds import AVRO, JSON, read_text

    try:
        schema = read_text(options.file.read_text("utf-8"), JSON if options.file.suffix == ".json" else AVRO)
    except (OSError, UnicodeDecodeError, InvalidSchema) as error:
        raise UsageError(f"{options.file}: {error}") from None
    try:
        made = await _registered(stack, options, schema)
    except InvalidSchema as error:
        raise CommandError(f"{options.file}: {error}", code=ExitCode.FAILED) from None
    if output.is_json:
        output.document({"subject": made.subject, "version": made.version, "id": made.id})
    else:
        output.line(f"{made.subject}: version {made.version}, id {made.id}")
    return ExitCode.OK


async def _registered(stack: Any, options: argparse.Namespace, schema: Any) -> Registration:
    """Through the desk of the API where the log keeps the schemas, so that it is known who did it."""
    registry, settings = _open(stack)
    if settings.schema_registry_url is not None:
        return await registry.register(options.subject, schema)
    from logqueue_consumers.control.command_writer import CommandWriter

    from logqueue.clock import SystemClock
    from logqueue_api.rest.registry.desk import RegistryDesk
    from logqueue_api.rest.registry.faults import RegistryFault

    writer = CommandWriter(settings)
    try:
        desk = RegistryDesk(settings, writer=writer, clock=SystemClock())
        return await desk.register(options.subject, schema, by=actor(options))
    except RegistryFault as fault:
        raise CommandError(fault.message, code=ExitCode.FAILED) from None
    finally:
        await writer.stop()


def _open(stack: Any) -> tuple[Registry, Settings]:
    from logqueue.jobs.schema_source import open_registry
    from logqueue.jobs.settings import load_settings

    settings = load_settings(bootstrap=stack.bootstrap, connect_timeout_s=CONNECT_SECONDS)
    return open_registry(settings), settings
