"""DescribeUserScramCredentials (50): who has credentials, for which mechanisms, with how many iterations (KIP-554)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, shortened
from logqueue.protocol.messages.describe_user_scram_credentials import (
    CredentialInfo,
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)
from logqueue.security.credentials import Credentials

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(
    broker: Broker, request: DescribeUserScramCredentialsRequest, slot: Slot
) -> DescribeUserScramCredentialsResponse:
    credentials = broker.security.credentials
    if not request.users:
        names = sorted({key.user for key in credentials.by_key})
        return DescribeUserScramCredentialsResponse(results=[_describe(credentials, name) for name in names])
    named = Counter(user.name for user in request.users)
    return DescribeUserScramCredentialsResponse(
        results=[
            _failed(
                name, ErrorCode.DUPLICATE_RESOURCE, f"Cannot describe SCRAM credentials for the same user twice: {name}"
            )
            if times > 1
            else _describe(credentials, name)
            for name, times in named.items()
        ]
    )


def _describe(credentials: Credentials, name: str) -> DescribeUserScramCredentialsResult:
    found = credentials.of(name)
    if not found:
        return _failed(
            name,
            ErrorCode.RESOURCE_NOT_FOUND,
            f"Attempt to describe a user credential that does not exist: {name}",
        )
    return DescribeUserScramCredentialsResult(
        user=name,
        credential_infos=[
            CredentialInfo(mechanism=mechanism, iterations=credential.iterations)
            for mechanism, credential in sorted(found.items())
        ],
    )


def _failed(name: str, code: ErrorCode, message: str) -> DescribeUserScramCredentialsResult:
    return DescribeUserScramCredentialsResult(user=name, error_code=code, error_message=shortened(message))
