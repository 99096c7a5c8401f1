"""What is kept of users, ACLs and quotas: whole or not at all, whatever happens to the disk or the process."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from logqueue.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest, UserName
from logqueue.security.acl import Acl, Operation, PatternType, Permission, ResourceType
from logqueue.security.credentials import Credential, CredentialKey, ScramMechanism
from logqueue.security.state import DamagedState, SecurityState, dump, load
from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import Buffer, RealFileSystem
from logqueue.storage.security_file import FILE_NAME, read_security, write_security
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
KEYS = st.binary(min_size=1, max_size=64)
CREDENTIALS = st.builds(
    Credential,
    mechanism=st.sampled_from(list(ScramMechanism)),
    salt=KEYS,
    stored_key=KEYS,
    server_key=KEYS,
    iterations=st.integers(4096, 16_384),
)
ACLS = st.builds(
    Acl,
    resource_type=st.sampled_from(list(ResourceType)[2:]),
    name=NAMES,
    pattern=st.sampled_from([PatternType.LITERAL, PatternType.PREFIXED]),
    principal=NAMES.map(lambda name: f"User:{name}"),
    host=NAMES,
    operation=st.sampled_from(list(Operation)[2:]),
    permission=st.sampled_from([Permission.ALLOW, Permission.DENY]),
)
QUOTAS = st.dictionaries(
    st.dictionaries(st.sampled_from(["user", "client-id"]), st.none() | NAMES, min_size=1).map(
        lambda names: frozenset(names.items())
    ),
    st.dictionaries(st.sampled_from(["producer_byte_rate", "request_percentage"]), st.floats(1, 1e9), min_size=1),
    max_size=4,
)


def states() -> st.SearchStrategy[SecurityState]:
    return st.builds(
        SecurityState,
        decoy_key=KEYS,
        credentials=st.lists(st.tuples(NAMES, CREDENTIALS), max_size=4).map(
            lambda items: {CredentialKey(user, c.mechanism): c for user, c in items}
        ),
        acls=st.frozensets(ACLS, max_size=4),
        quotas=QUOTAS,
    )


@given(states())
def test_a_state_comes_back_as_it_was(state: SecurityState) -> None:
    assert load(dump(state)) == state


@given(state=states(), data=st.data())
def test_a_damaged_state_is_never_taken_for_another_one(state: SecurityState, data: st.DataObject) -> None:
    content = bytearray(dump(state))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    try:
        assert load(bytes(content)) == state
    except DamagedState:
        pass
    with pytest.raises(DamagedState):
        load(bytes(content[:position]))


def test_a_broker_does_not_start_on_a_damaged_file_and_says_which(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"logqueue-security 1 00000000\n{}")
    with pytest.raises(DataFolderError, match="its checksum does not match"):
        EmbeddedBroker(tmp_path, fsync=False).start()


def test_the_file_is_never_readable_for_others_not_even_while_it_is_written(tmp_path: Path) -> None:
    modes = []

    class Watched(RealFileSystem):
        def write(self, fd: int, data: Buffer, position: int, /) -> int:
            modes.append(stat.S_IMODE((tmp_path / f"{FILE_NAME}.tmp").stat().st_mode))
            return RealFileSystem.pwrite(fd, data, position)

        pwrite = write  # type: ignore[assignment]

    write_security(Watched(), tmp_path, b"secret")
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_the_file_is_made_for_its_owner_alone_and_no_leftover_that_others_have_open_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{FILE_NAME}.tmp"
    path.write_bytes(b"")
    path.chmod(0o644)
    made: list[int] = []
    really_open = os.open

    def watched(name: str, flags: int, mode: int = 0o777, **options: int) -> int:
        if flags & os.O_CREAT:
            made.append(mode)
        return really_open(name, flags, mode, **options)

    with path.open("rb") as somebody:
        monkeypatch.setattr(os, "open", watched)
        write_security(RealFileSystem(), tmp_path, b"secret")
        assert somebody.read() == b""
    assert made == [0o600]


@pytest.mark.parametrize("failing", ["pwrite", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, failing: str) -> None:
    fs = RealFileSystem()
    write_security(fs, tmp_path, b"old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    broken = type("Broken", (RealFileSystem,), {failing: staticmethod(fail)})()
    with pytest.raises(OSError, match="Input/output error"):
        write_security(broken, tmp_path, b"new")
    assert read_security(fs, tmp_path) == b"old"


def upsert(user: str, mechanism: int = 1, iterations: int = 4096) -> ScramCredentialUpsertion:
    return ScramCredentialUpsertion(
        name=user, mechanism=mechanism, iterations=iterations, salt=b"salt", salted_password=b"salted"
    )


def alter(wire: Wire, *changes: ScramCredentialUpsertion | ScramCredentialDeletion) -> dict[str, int]:
    request = AlterUserScramCredentialsRequest(
        deletions=[change for change in changes if isinstance(change, ScramCredentialDeletion)],
        upsertions=[change for change in changes if isinstance(change, ScramCredentialUpsertion)],
    )
    return {result.user: result.error_code for result in wire.call(0, request).results}


def test_credentials_are_altered_user_by_user_and_outlive_a_restart(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, fsync=False) as broker:
        with Wire(broker.bootstrap) as wire:
            codes = alter(
                wire,
                upsert("good"),
                upsert("weak", iterations=4095),
                upsert("slow", iterations=16_385),
                upsert("odd", mechanism=9),
                upsert(""),
                upsert("twice"),
                upsert("twice", mechanism=2),
                ScramCredentialDeletion(name="nobody", mechanism=1),
            )
            assert codes == {
                "good": 0,
                "weak": ErrorCode.UNACCEPTABLE_CREDENTIAL,
                "slow": ErrorCode.UNACCEPTABLE_CREDENTIAL,
                "odd": ErrorCode.UNSUPPORTED_SASL_MECHANISM,
                "": ErrorCode.UNACCEPTABLE_CREDENTIAL,
                "twice": ErrorCode.DUPLICATE_RESOURCE,
                "nobody": ErrorCode.RESOURCE_NOT_FOUND,
            }
        broker.restart()
        with Wire(broker.bootstrap) as wire:
            everybody = wire.call(0, DescribeUserScramCredentialsRequest(users=None)).results
            assert [(r.user, [(i.mechanism, i.iterations) for i in r.credential_infos]) for r in everybody] == [
                ("good", [(1, 4096)])
            ]
            named = [UserName(name=name) for name in ("good", "gone", "twice", "twice")]
            codes = {
                r.user: r.error_code for r in wire.call(0, DescribeUserScramCredentialsRequest(users=named)).results
            }
            assert codes == {
                "good": 0,
                "gone": ErrorCode.RESOURCE_NOT_FOUND,
                "twice": ErrorCode.DUPLICATE_RESOURCE,
            }
            assert alter(wire, ScramCredentialDeletion(name="good", mechanism=1)) == {"good": 0}
            assert wire.call(0, DescribeUserScramCredentialsRequest(users=None)).results == []
