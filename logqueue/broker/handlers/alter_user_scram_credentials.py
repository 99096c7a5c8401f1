"""AlterUserScramCredentials (51): set and delete credentials, per user all or none (KIP-554).

The salted password that comes in is turned into the two keys that are kept; it is neither stored nor logged.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from logqueue.security.credentials import Credential, CredentialKey, check_credential, check_name

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

Present = dict[CredentialKey, Credential]


def handle(broker: Broker, request: AlterUserScramCredentialsRequest, slot: Slot) -> AlterUserScramCredentialsResponse:
    present: Present = dict(broker.security.credentials.by_key)
    changes: list[ScramCredentialDeletion | ScramCredentialUpsertion] = [*request.deletions, *request.upsertions]
    named = Counter(change.name for change in changes)
    results: dict[str, AlterUserScramCredentialsResult] = {}
    for change in changes:
        result = results.setdefault(change.name, AlterUserScramCredentialsResult(user=change.name))
        try:
            if named[change.name] > 1:
                raise KafkaError(
                    "A user credential cannot be altered twice in the same request", code=ErrorCode.DUPLICATE_RESOURCE
                )
            _apply(present, change)
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.detail
    if any(not result.error_code for result in results.values()):
        try:
            broker.security.set_credentials(present)
        except KafkaError as error:
            for result in results.values():
                if not result.error_code:
                    result.error_code, result.error_message = error.code, error.detail
    return AlterUserScramCredentialsResponse(results=list(results.values()))


def _apply(present: Present, change: ScramCredentialDeletion | ScramCredentialUpsertion) -> None:
    if isinstance(change, ScramCredentialDeletion):
        key = CredentialKey(change.name, check_name(change.name, change.mechanism))
        if present.pop(key, None) is None:
            raise KafkaError(
                "Attempt to delete a user credential that does not exist", code=ErrorCode.RESOURCE_NOT_FOUND
            )
        return
    mechanism = check_credential(change.name, change.mechanism, iterations=change.iterations)
    present[CredentialKey(change.name, mechanism)] = Credential.from_salted(
        mechanism,
        salt=bytes(change.salt),
        salted_password=bytes(change.salted_password),
        iterations=change.iterations,
    )
