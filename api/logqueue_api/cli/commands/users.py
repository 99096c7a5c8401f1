"""Users of the log (SCRAM credentials): add, list, remove.

With --offline the data folder is changed itself, while no broker runs on it: that is how the first user comes into a
log that lets nobody in.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.arguments import add_stack, count
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from logqueue.security.credentials import Credential, CredentialKey, ScramMechanism
    from logqueue.security.state import SecurityState

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
DEFAULT_ITERATIONS = 8192
SALT_BYTES = 32

Credentials = dict["CredentialKey", "Credential"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="add|list|remove")
    add = verbs.add_parser("add", help="add a user, or change the password of one")
    add.add_argument("user", metavar="NAME")
    add.add_argument(
        "--password-file", type=Path, metavar="FILE", help="take the first line of FILE (default: asked for, or stdin)"
    )
    add.add_argument(
        "--iterations", type=count, default=DEFAULT_ITERATIONS, help=f"hashes a guess costs ({DEFAULT_ITERATIONS})"
    )
    remove = verbs.add_parser("remove", help="remove a user")
    remove.add_argument("user", metavar="NAME")
    listing = verbs.add_parser("list", help="list users")
    for verb in (add, remove):
        verb.add_argument(
            "--mechanism", action="append", choices=MECHANISMS, help="only this one (default: both; may be repeated)"
        )
    for verb in (add, remove, listing):
        verb.add_argument("--offline", action="store_true", help="change the data folder; no broker may run on it")
        add_stack(verb)


def run(options: argparse.Namespace) -> int:
    output = Output(is_json=options.json)
    if options.verb == "list":
        _list(options, output)
    elif options.verb == "add":
        _add(options, output, _password(options))
    else:
        _remove(options, output)
    return ExitCode.OK


def _mechanisms(options: argparse.Namespace) -> list[ScramMechanism]:
    from logqueue.security.credentials import SCRAM_NAMES

    return [SCRAM_NAMES[name] for name in options.mechanism or MECHANISMS]


def _password(options: argparse.Namespace) -> str:
    """Never an option of the command line, where every other user of the machine could read it."""
    if options.password_file is not None:
        try:
            text: str = options.password_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--password-file {options.password_file} cannot be read: {error}") from None
    elif sys.stdin.isatty():
        from getpass import getpass

        text = getpass(f"password of {options.user}: ")
        if getpass("again: ") != text:
            raise UsageError("the two passwords differ")
    else:
        text = sys.stdin.readline()
    password = text.split("\n")[0].rstrip("\r")
    if not password:
        raise UsageError("the password is empty", hint="give it by --password-file or on standard input")
    return password


def _add(options: argparse.Namespace, output: Output, password: str) -> None:
    from logqueue.security.credentials import Credential, CredentialKey, check_credential, salt_password

    for mechanism in _mechanisms(options):
        check_credential(options.user, mechanism, iterations=options.iterations)
        salt = secrets.token_bytes(SALT_BYTES)
        if options.offline:
            credential = Credential.from_password(mechanism, password, salt=salt, iterations=options.iterations)
            with _offline(options.data_dir) as credentials:
                credentials[CredentialKey(options.user, mechanism)] = credential
        else:
            salted = salt_password(mechanism, password, salt=salt, iterations=options.iterations)
            _upsert(options, mechanism, salt, salted)
    _say(output, options.user, f"user {options.user} can log in with {' and '.join(options.mechanism or MECHANISMS)}")


def _upsert(options: argparse.Namespace, mechanism: ScramMechanism, salt: bytes, salted: bytes) -> None:
    from logqueue.protocol.messages.alter_user_scram_credentials import (
        AlterUserScramCredentialsRequest,
        ScramCredentialUpsertion,
    )

    upsertion = ScramCredentialUpsertion(
        name=options.user,
        mechanism=mechanism,
        iterations=options.iterations,
        salt=salt,
        salted_password=salted,
    )
    _alter(options, AlterUserScramCredentialsRequest(upsertions=[upsertion]))


def _alter(options: argparse.Namespace, request: Any) -> None:
    from logqueue_api.cli.wire import check

    with _wire(options) as wire:
        for result in wire.call(0, request).results:
            check(result, f"user {options.user}")


def _remove(options: argparse.Namespace, output: Output) -> None:
    from logqueue.protocol.messages.alter_user_scram_credentials import (
        AlterUserScramCredentialsRequest,
        ScramCredentialDeletion,
    )

    present = [item for item in _users(options) if item["user"] == options.user]
    wanted = options.mechanism or [name for item in present for name in item["mechanisms"]]
    if not present or not set(wanted) & set(present[0]["mechanisms"]):
        raise CommandError(f"there is no user {options.user!r}", code=ExitCode.NOT_FOUND)
    from logqueue.security.credentials import SCRAM_NAMES, CredentialKey

    for mechanism in [SCRAM_NAMES[name] for name in wanted if name in present[0]["mechanisms"]]:
        if options.offline:
            with _offline(options.data_dir) as credentials:
                credentials.pop(CredentialKey(options.user, mechanism))
        else:
            deletion = ScramCredentialDeletion(name=options.user, mechanism=mechanism)
            _alter(options, AlterUserScramCredentialsRequest(deletions=[deletion]))
    _say(output, options.user, f"user {options.user} is removed; connections that are open stay until they end")


def _list(options: argparse.Namespace, output: Output) -> None:
    items = [
        {
            "user": item["user"],
            "mechanisms": ", ".join(f"{name} ({iterations})" for name, iterations in item["mechanisms"].items()),
        }
        for item in _users(options)
    ]
    columns = [Column("user", "USER"), Column("mechanisms", "MECHANISMS")]
    output.items(items, columns, empty="no users yet; `logqueue users add NAME` adds one")


def _users(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each user with the iterations of each mechanism."""
    from logqueue.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest
    from logqueue.security.credentials import ScramMechanism

    found: dict[str, dict[str, int]] = {}
    if options.offline:
        state = _read(options.data_dir)
        for key, credential in sorted(state.credentials.items()) if state else ():
            found.setdefault(key.user, {})[key.mechanism.sasl_name] = credential.iterations
    else:
        from logqueue_api.cli.wire import check

        with _wire(options) as wire:
            answer = wire.call(0, DescribeUserScramCredentialsRequest(users=None))
        check(answer, "listing users")
        for result in answer.results:
            for info in result.credential_infos:
                found.setdefault(result.user, {})[ScramMechanism(info.mechanism).sasl_name] = info.iterations
    return [{"user": user, "mechanisms": mechanisms} for user, mechanisms in found.items()]


def _wire(options: argparse.Namespace) -> Any:
    from logqueue.jobs.settings import load_settings
    from logqueue_api.cli.wire import Wire

    return Wire(load_settings(bootstrap=find_stack(options).bootstrap))


def _say(output: Output, user: str, text: str) -> None:
    if output.is_json:
        output.document({"user": user})
    output.line(text)


@contextmanager
def _offline(data_dir: Path) -> Iterator[Credentials]:
    """The credentials of a data folder that nobody uses, to be changed; durable at the end of the block."""
    from logqueue.broker.security.registry import new_state
    from logqueue.security.state import dump
    from logqueue.storage.directory_lock import DirectoryLock
    from logqueue.storage.file_system import RealFileSystem
    from logqueue.storage.security_file import write_security

    fs = RealFileSystem()
    folder = data_dir.absolute()
    lock = DirectoryLock.take(fs, folder)
    try:
        state = _read(data_dir) or new_state()
        credentials: Credentials = dict(state.credentials)
        yield credentials
        write_security(fs, folder, dump(replace(state, credentials=credentials)))
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error}", code=ExitCode.FAILED) from None
    finally:
        lock.release()


def _read(data_dir: Path) -> SecurityState | None:
    from logqueue.security.state import DamagedState, load
    from logqueue.storage.file_system import RealFileSystem
    from logqueue.storage.security_file import FILE_NAME, read_security

    try:
        content = read_security(RealFileSystem(), data_dir.absolute())
        return None if content is None else load(content)
    except (OSError, DamagedState) as error:
        raise CommandError(f"{data_dir / FILE_NAME} cannot be used: {error}", code=ExitCode.FAILED) from None
