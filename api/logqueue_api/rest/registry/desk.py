"""Answers of the registry: what is registered, and changes of it. Knows the schema topic, no HTTP.

Every change is in the audit topic (`schema.register`, `.delete`, `.level`, `.mode`) before it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_schemas.evolution import Conflict, Level
from logqueue_schemas.registry import SchemaTable
from logqueue_schemas.schema_records import LevelSet, ModeSet, Pair, Registration

from logqueue.clock import Clock
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.schema_checks import check_next, conflicts_with
from logqueue.jobs.schema_rules import DEFAULT_LEVEL, DEFAULT_MODE, level_of, mode_of
from logqueue.jobs.settings import Settings
from logqueue_api.rest.registry import faults
from logqueue_api.rest.registry.faults import RegistryFault

Answer = TypeVar("Answer")


class RegistryDesk:
    """The registry of one process. What it answers was true of the topic when it was asked, not before.

    `by` is who asks for a change, as the audit topic has it.
    """

    def __init__(self, settings: Settings, *, writer: CommandWriter, clock: Clock) -> None:
        self._names = settings.topics
        self._registry = SchemaRegistry(settings)
        self._writer = writer
        self._clock = clock
        self._checking = asyncio.Lock()
        """One check of a schema at a time: each is a thread that the loop shares the processor with."""

    async def table(self) -> SchemaTable:
        """The topic as it is now."""
        await self._registry.refresh()
        return self._registry.table

    async def first_of(self, schema_id: int) -> Registration:
        """Who gave an id its schema. It never changes, so the topic is read again only for an id that is not known."""
        found = self._registry.table.first_of(schema_id)
        if found is None:
            found = (await self.table()).first_of(schema_id)
        if found is None:
            raise RegistryFault(faults.SCHEMA_NOT_FOUND, f"Schema {schema_id} not found")
        return found

    async def register(self, subject: str, schema: Any, *, by: str) -> Registration:
        """The registration of a schema, made if there is none. Raises SchemaRefused or InvalidSchema."""
        table = await self.table()
        found = table.find(subject, schema)
        if found is not None:
            return found
        self._check_mode(table, subject)
        async with self._checking:
            await check_next(subject, schema, table.versions(subject), level_of(table, self._names, subject))
        made = table.propose(subject, schema)
        value = {"version": made.version, "id": made.id, "schemaType": made.kind}
        await self._note("schema.register", subject, value, by=by)
        return await self._registry.register(subject, schema)

    async def look_up(self, subject: str, schema: Any, *, deleted: bool) -> Registration:
        """The registration of a schema under a subject that has it."""
        table = await self.table()
        versions_of(table, subject, deleted=deleted)
        found = table.find(subject, schema, deleted=deleted)
        if found is None:
            raise RegistryFault(faults.SCHEMA_NOT_FOUND, "Schema not found")
        return found

    async def conflicts(self, subject: str, schema: Any, version: str | None) -> list[Conflict]:
        """Why the schema could not be the next one after a version, or (None) after those that are there."""
        table = await self.table()
        level = level_of(table, self._names, subject)
        if version is None:
            older: Sequence[Registration] = table.versions(subject)
        else:
            older = [version_of(table, subject, version)]
        async with self._checking:
            return await conflicts_with(schema, older, level)

    async def delete_subject(self, subject: str, *, permanent: bool, by: str) -> list[int]:
        """Delete all versions; permanently only what was deleted before. The numbers of those that were."""

        def decide(table: SchemaTable) -> tuple[list[Pair], list[int]]:
            live = table.versions(subject)
            every = versions_of(table, subject, deleted=True)
            if permanent and live:
                raise RegistryFault(
                    faults.SUBJECT_NOT_SOFT_DELETED,
                    f"Subject '{subject}' was not deleted first before being permanently deleted",
                )
            if not permanent and not live:
                raise RegistryFault(
                    faults.SUBJECT_SOFT_DELETED,
                    f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently",
                )
            chosen = every if permanent else live
            pairs = [_gone(one) if permanent else _deleted(one) for one in chosen]
            pairs += [LevelSet(subject=subject, level=None).pair()] if table.level(subject) is not None else []
            pairs += [ModeSet(subject=subject, mode=None).pair()] if table.mode(subject) is not None else []
            return pairs, [one.version for one in chosen]

        return await self._delete(decide, subject, permanent=permanent, by=by)

    async def delete_version(self, subject: str, version: str, *, permanent: bool, by: str) -> int:
        """Delete a version; permanently only if it was deleted before. Its number."""

        def decide(table: SchemaTable) -> tuple[list[Pair], int]:
            found = version_of(table, subject, version, deleted=True if version != "latest" else permanent)
            if permanent and not found.is_deleted:
                raise RegistryFault(
                    faults.VERSION_NOT_SOFT_DELETED,
                    f"Subject '{subject}' Version {found.version} was not deleted first before being permanently"
                    " deleted",
                )
            if not permanent and found.is_deleted:
                raise RegistryFault(
                    faults.VERSION_SOFT_DELETED,
                    f"Subject '{subject}' Version {found.version} was soft deleted. Set permanent=true to delete"
                    " permanently",
                )
            return [_gone(found) if permanent else _deleted(found)], found.version

        return await self._delete(decide, subject, permanent=permanent, by=by)

    async def level(self, subject: str | None, *, or_global: bool = False) -> Level:
        """What a subject (None: every one that has nothing else) asks of its next version."""
        table = await self.table()
        if subject is None:
            return table.level(None) or DEFAULT_LEVEL
        own = table.level(subject)
        if own is None and not or_global:
            raise RegistryFault(
                faults.NO_LEVEL, f"Subject '{subject}' does not have subject-level compatibility configured"
            )
        return level_of(table, self._names, subject)

    async def set_level(self, subject: str | None, level: Level | None, *, by: str) -> Level:
        """Set it, or take it back (None); what was set before or stood instead."""
        before = await self.level(subject, or_global=level is not None)
        value = {"level": None if level is None else level.value}
        await self._set("schema.level", subject, value, LevelSet(subject=subject, level=level), by=by)
        return before

    async def mode(self, subject: str | None, *, or_global: bool = False) -> str:
        """Whether a subject (None: every one that has nothing else) takes new versions."""
        table = await self.table()
        if subject is None:
            return table.mode(None) or DEFAULT_MODE
        own = table.mode(subject)
        if own is None and not or_global:
            raise RegistryFault(faults.NO_MODE, f"Subject '{subject}' does not have subject-level mode configured")
        return own or mode_of(table, subject)

    async def set_mode(self, subject: str | None, mode: str | None, *, by: str) -> str:
        """Set it, or take it back (None); what was set before or stood instead."""
        before = await self.mode(subject, or_global=mode is not None)
        await self._set("schema.mode", subject, {"mode": mode}, ModeSet(subject=subject, mode=mode), by=by)
        return before

    async def _set(
        self, event: str, subject: str | None, value: dict[str, Any], record: LevelSet | ModeSet, *, by: str
    ) -> None:
        """Note and write a setting."""
        await self._note(event, subject, value, by=by)
        await self._registry.change(lambda table: [record.pair()])

    async def _delete(
        self,
        decide: Callable[[SchemaTable], tuple[list[Pair], Answer]],
        subject: str,
        *,
        permanent: bool,
        by: str,
    ) -> Answer:
        """Note and write what `decide` says; it is asked again at the moment of writing."""

        def allowed(table: SchemaTable) -> tuple[list[Pair], Answer]:
            self._check_mode(table, subject)
            return decide(table)

        _, versions = allowed(await self.table())
        await self._note("schema.delete", subject, {"versions": versions, "permanent": permanent}, by=by)
        answers: list[Answer] = []

        def write(table: SchemaTable) -> list[Pair]:
            pairs, answer = allowed(table)
            answers.append(answer)
            return pairs

        await self._registry.change(write)
        return answers[0]

    async def _note(self, event: str, subject: str | None, value: dict[str, Any], *, by: str) -> None:
        facts = {"subject": subject, "value": value}
        await self._writer.note(event, by=by, at_ms=self._clock.time_ms(), facts=facts)

    @staticmethod
    def _check_mode(table: SchemaTable, subject: str) -> None:
        if mode_of(table, subject) == "READONLY":
            raise RegistryFault(faults.NOT_PERMITTED, f"Subject {subject} is in read-only mode")


def versions_of(table: SchemaTable, subject: str, *, deleted: bool = False) -> list[Registration]:
    """The versions of a subject that has some; RegistryFault 40401."""
    versions = table.versions(subject, deleted=deleted)
    if not versions:
        raise RegistryFault(faults.SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.")
    return versions


def version_of(table: SchemaTable, subject: str, version: str, *, deleted: bool = False) -> Registration:
    """A version by its number, `latest` or -1; RegistryFault 40401, 40402 or 42202."""
    is_number = version.isascii() and version.isdigit() and len(version) <= 10
    if version not in ("latest", "-1") and not (is_number and 0 < int(version) < 2**31):
        raise RegistryFault(
            faults.INVALID_VERSION,
            f"The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and"
            ' the string "latest"',
        )
    versions = versions_of(table, subject, deleted=deleted)
    if version in ("latest", "-1"):
        return versions[-1]
    for one in versions:
        if one.version == int(version):
            return one
    raise RegistryFault(faults.VERSION_NOT_FOUND, f"Version {version} not found.")


def _deleted(registration: Registration) -> Pair:
    return registration.key(), registration.deleted().value()


def _gone(registration: Registration) -> Pair:
    return registration.key(), None
