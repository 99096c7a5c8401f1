"""The users of the tests, and how they come into a data folder before its broker starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from logqueue.security.credentials import MIN_ITERATIONS, Credential, CredentialKey, ScramMechanism
from logqueue.security.state import SecurityState, dump
from logqueue.storage.file_system import RealFileSystem
from logqueue.storage.security_file import write_security


class Person(NamedTuple):
    name: str
    password: str


ADMIN = Person("admin", "admin's secret")
ALICE = Person("alice", "al=ce,s p\u00e4ssword")
BOB = Person("bob", "bob's secret")


def write_users(data_dir: Path, *people: Person) -> None:
    """A data folder that knows these users."""
    credentials = {}
    for person in people:
        for mechanism in ScramMechanism:
            credentials[CredentialKey(person.name, mechanism)] = Credential.from_password(
                mechanism, person.password, salt=person.name.encode() * 4, iterations=MIN_ITERATIONS
            )
    data_dir.mkdir(exist_ok=True)
    write_security(RealFileSystem(), data_dir, dump(SecurityState(decoy_key=b"d" * 32, credentials=credentials)))
