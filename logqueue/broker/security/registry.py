"""Users, ACLs and quotas of a running broker: read from the data folder, changed durably. Knows no wire format."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from logqueue.config import BrokerConfig
from logqueue.errors import ErrorCode, KafkaError
from logqueue.security.acl import MAX_ACLS, Acl
from logqueue.security.authorizer import Authorizer, parse_super_users
from logqueue.security.credentials import MAX_CREDENTIALS, Credential, CredentialKey, Credentials
from logqueue.security.quota import MAX_ENTITIES, Entity, Quotas
from logqueue.security.state import DamagedState, SecurityState, dump, load
from logqueue.storage.errors import DataFolderError
from logqueue.storage.log_directory import LogDirectory
from logqueue.storage.security_file import FILE_NAME

log = logging.getLogger("logqueue.broker.security")

DECOY_KEY_BYTES = 32


class TooMany(KafkaError):
    """More users, ACLs or quotas than a broker keeps."""

    code = ErrorCode.INVALID_REQUEST


def new_state() -> SecurityState:
    """Nobody and nothing, with a secret of its own."""
    return SecurityState(decoy_key=secrets.token_bytes(DECOY_KEY_BYTES))


def read_state(directory: LogDirectory) -> SecurityState | None:
    """What the data folder keeps; None if it keeps nothing. Raises DataFolderError."""
    content = directory.read_security()
    if content is None:
        return None
    try:
        return load(content)
    except DamagedState as damage:
        # Going on without would open what was closed, or lock everybody out.
        raise DataFolderError(
            f"{directory.folder / FILE_NAME} cannot be used: {damage}; restore it from a backup of the data folder, or "
            "remove it to begin again without users, ACLs and quotas"
        ) from None


class Security:
    """What decides about requests. `authorizer` is None where everybody may do everything."""

    def __init__(
        self, directory: LogDirectory, config: BrokerConfig, state: SecurityState, *, on_change: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._on_change = on_change
        self.state = state
        self.credentials = Credentials(state.credentials.items(), decoy_key=state.decoy_key)
        self.authorizer: Authorizer | None = None
        if config.authorizer_class_name:
            self.authorizer = Authorizer(
                state.acls,
                super_users=parse_super_users(config.super_users),
                allow_if_no_acl=config.allow_everyone_if_no_acl_found,
            )
        self.quotas = Quotas(state.quotas)

    def set_credentials(self, credentials: Mapping[CredentialKey, Credential]) -> None:
        """Replace who has which credentials. Raises TooMany or StorageError; then nothing has changed."""
        _check_count(len(credentials), MAX_CREDENTIALS, "credentials")
        self._store(replace(self.state, credentials=credentials))
        self.credentials.replace(credentials.items())

    def set_acls(self, acls: frozenset[Acl]) -> None:
        """Replace the ACLs. Raises TooMany or StorageError; then nothing has changed."""
        _check_count(len(acls), MAX_ACLS, "ACLs")
        self._store(replace(self.state, acls=acls))
        if self.authorizer is not None:
            self.authorizer.replace(acls)

    def set_quotas(self, quotas: Mapping[Entity, Mapping[str, float]]) -> None:
        """Replace the quotas. Raises TooMany or StorageError; then nothing has changed."""
        _check_count(len(quotas), MAX_ENTITIES, "quota entities")
        self._store(replace(self.state, quotas=quotas))
        self.quotas = Quotas(quotas)
        self._on_change()

    def _store(self, state: SecurityState) -> None:
        self._directory.write_security(dump(state))
        self.state = state


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise TooMany(f"a broker keeps at most {most:,} {what}")
