"""`logqueue schema` on a running log: what is registered, and whether an app's schemas may follow. On every engine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from logqueue.jobs.settings import Settings
from tests.conftest import Engine
from tests.consumers.conftest import Log

COMMAND = [sys.executable, "-m", "logqueue_api.cli.main", "schema"]
APP = """
from logqueue import App

app = App("mailer")


@app.job("email.send", queue="emails", arguments="email.avsc")
async def send(**_): ...
"""
EMAIL: dict[str, Any] = {"type": "record", "name": "Email", "fields": [{"name": "to", "type": "string"}]}
CC = {"name": "cc", "type": "string"}
OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND, APP_ERROR = 0, 1, 2, 3, 4, 7


class Shell:
    """A folder with an app and its schema."""

    def __init__(self, folder: Path, *, bootstrap: str, prefix: str) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.subject = f"{prefix}jobs.emails-email.send"
        plain = {key: value for key, value in os.environ.items() if not key.startswith("LOGQUEUE_")}
        self._environment = plain | {"LOGQUEUE_BOOTSTRAP": bootstrap, "LOGQUEUE_TOPIC_PREFIX": prefix}

    def declare(self, *fields: dict[str, Any]) -> None:
        """An app whose schema has these fields more."""
        schema = {**EMAIL, "fields": [*EMAIL["fields"], *fields]}
        names = ", ".join(field["name"] for field in schema["fields"])
        (self.folder / "email.avsc").write_text(json.dumps(schema))
        (self.folder / "mailer.py").write_text(APP.replace("**_", names))

    def run(self, *words: str, code: int = OK, **environment: str) -> str:
        """What a command says; its exit code has to be `code`."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def shell(engine: Engine, prefix: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path, bootstrap=engine.bootstrap, prefix=f"{prefix}.")


def test_schemas_are_registered_listed_shown_and_checked(shell: Shell) -> None:
    shell.declare()
    assert f"{shell.subject}: new" in shell.run("check", "mailer.py")
    assert "no schemas yet" in shell.run("ls"), "a check writes nothing"
    made = json.loads(shell.run("register", shell.subject, "email.avsc", "--by", "ann", "--json"))
    assert (made["subject"], made["version"]) == (shell.subject, 1)
    assert f"{shell.subject}: registered as version 1" in shell.run("check", "mailer.py")
    shell.declare(CC)
    told = shell.run("check", "mailer.py", code=FAILED)
    assert "not BACKWARD_TRANSITIVE compatible" in told
    assert "field 'cc': it has no default" in told
    assert "cannot read data of version 1" in told
    verdict = json.loads(shell.run("check", "mailer.py", "--json", code=FAILED))
    assert verdict["compatible"] is False
    assert "'cc'" in shell.run("register", shell.subject, "email.avsc", code=FAILED)
    shell.declare({**CC, "default": ""})
    assert "version 2" in shell.run("register", shell.subject, "email.avsc")
    [item] = json.loads(shell.run("ls", "--json"))["items"]
    assert (item["subject"], item["versions"], item["latest"]) == (shell.subject, 2, 2)
    shown = json.loads(shell.run("show", shell.subject, "--version", "1", "--json"))
    assert (shown["version"], shown["id"], shown["schema"]) == (1, made["id"], EMAIL)
    assert '"cc"' in shell.run("show", shell.subject)


def test_who_registered_a_schema_is_kept(shell: Shell) -> None:
    (shell.folder / "note.json").write_text('{"type": "object"}')
    shell.run("register", "notes-value", "note.json", "--by", "ann")
    shell.run("register", "notes-value", "note.json", "--by", "bob")
    log = Log(Settings(bootstrap=shell.bootstrap, topic_prefix=shell.prefix), shell.prefix)
    (record,) = asyncio.run(log.read(log.settings.topics.audit))
    said = json.loads(record.value)
    assert (said["event"], said["subject"], said["by"]) == ("schema.register", "notes-value", "ann")
    assert said["value"]["schemaType"] == "JSON"


def test_what_cannot_be_done_is_said_plainly(shell: Shell) -> None:
    assert "there is no subject 'x'" in shell.run("show", "x", code=NOT_FOUND)
    (shell.folder / "bad.avsc").write_text('{"type": "nope"}')
    assert "not an Avro schema" in shell.run("register", "x", "bad.avsc", code=USAGE)
    assert "gone.avsc" in shell.run("register", "x", "gone.avsc", code=USAGE)
    shell.declare()
    (shell.folder / "email.avsc").unlink()
    assert "there is no schema file" in shell.run("check", "mailer.py", code=APP_ERROR)
    assert "127.0.0.1:1" in shell.run("ls", code=UNREACHABLE, LOGQUEUE_BOOTSTRAP="127.0.0.1:1")
    registry = "http://127.0.0.1:1"
    told = shell.run("ls", code=UNREACHABLE, LOGQUEUE_SCHEMA_REGISTRY_URL=registry)
    assert registry in told
