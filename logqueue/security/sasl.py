"""The server's side of SASL PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677): tokens in, tokens out. Pure.

    n,,n=user,r=<client nonce>                          client first
    r=<both nonces>,s=<salt>,i=<iterations>             server first
    c=biws,r=<both nonces>,p=<proof>                    client final
    v=<server signature>                                server final

A user that does not exist goes through the same steps with a decoy and fails where a wrong password fails.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import new as new_hash
from typing import Protocol

from logqueue.errors import ErrorCode, KafkaError
from logqueue.security.credentials import SCRAM_NAMES, Credential, Credentials, ScramMechanism

PLAIN = "PLAIN"
MECHANISMS = (PLAIN, *SCRAM_NAMES)


class AuthenticationFailed(KafkaError):
    """The client did not prove who it is; the text is what it may be told."""

    code = ErrorCode.SASL_AUTHENTICATION_FAILED


class Exchange(Protocol):
    """One authentication (two kinds: Plain and Scram)."""

    is_costly: bool  # whether `respond` takes milliseconds, so that it should not run on an event loop
    user: str | None  # who it is; None until it is certain

    def respond(self, token: bytes) -> bytes:
        """The server's answer to a token. Raises AuthenticationFailed; then the exchange is over."""
        ...


def start_exchange(mechanism: str, credentials: Credentials, *, new_nonce: Callable[[], str]) -> Exchange:
    """The exchange of a mechanism out of MECHANISMS. A nonce is printable ASCII without a comma."""
    if mechanism == PLAIN:
        return Plain(credentials)
    return Scram(SCRAM_NAMES[mechanism], credentials, new_nonce=new_nonce)


class Plain:
    """`[authorization id] NUL user NUL password`, checked against what is stored for SCRAM."""

    is_costly = True

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.user: str | None = None

    def respond(self, token: bytes) -> bytes:
        try:
            parts = token.decode().split("\0")
        except UnicodeDecodeError:
            raise AuthenticationFailed("Authentication failed: tokens are not UTF-8") from None
        if len(parts) != 3:
            raise AuthenticationFailed(f"Invalid SASL/PLAIN response: expected 3 tokens, got {len(parts)}")
        authorization, user, password = parts
        if not user or not password:
            raise AuthenticationFailed(f"Authentication failed: {'password' if user else 'username'} not specified")
        credential, is_known = self._credentials.find_any(user)
        if not (credential.has_password(password) and is_known):
            raise AuthenticationFailed("Authentication failed: Invalid username or password")
        if authorization not in ("", user):
            raise AuthenticationFailed(
                "Authentication failed: Client requested an authorization id that is different from username"
            )
        self.user = user
        return b""


class Scram:
    """The two steps of SCRAM without channel binding."""

    is_costly = False

    def __init__(self, mechanism: ScramMechanism, credentials: Credentials, *, new_nonce: Callable[[], str]) -> None:
        self._mechanism = mechanism
        self._credentials = credentials
        self._new_nonce = new_nonce
        self._first: _First | None = None
        self.user: str | None = None

    def respond(self, token: bytes) -> bytes:
        try:
            text = token.decode()
            return self._begin(text) if self._first is None else self._finish(text, self._first)
        except (ValueError, binascii.Error):  # UnicodeDecodeError is one
            raise self._failed() from None

    def _begin(self, text: str) -> bytes:
        first = self._first = _First(text)
        first.credential, first.is_known = self._credentials.find(first.user, self._mechanism)
        first.server_nonce = self._new_nonce()
        salt = b64encode(first.credential.salt).decode()
        nonce = first.client_nonce + first.server_nonce
        first.server_first = f"r={nonce},s={salt},i={first.credential.iterations}"
        return first.server_first.encode()

    def _finish(self, text: str, first: _First) -> bytes:
        without_proof, separator, proof_text = text.rpartition(",p=")
        fields = without_proof.split(",")
        if not separator or len(fields) < 2 or not (fields[0].startswith("c=") and fields[1].startswith("r=")):
            raise ValueError("client final")
        proof = b64decode(proof_text, validate=True)
        # Like Kafka: librdkafka before 2.1 puts its own nonce in front once more; what keeps replays out is our part.
        is_ours = fields[1].endswith(first.server_nonce)
        if not is_ours or b64decode(fields[0][2:], validate=True) != first.gs2_header.encode():
            raise self._failed()
        signed = f"{first.bare},{first.server_first},{without_proof}".encode()
        credential = first.credential
        if not (_proves(credential, signed, proof) and first.is_known):
            raise self._failed()
        self.user = first.user
        signature = hmac.digest(credential.server_key, signed, self._mechanism.hash_name)
        return b"v=" + b64encode(signature)

    def _failed(self) -> AuthenticationFailed:
        return AuthenticationFailed(
            "Authentication failed during authentication due to invalid credentials with SASL mechanism "
            + self._mechanism.sasl_name
        )


class _First:
    """What the client's first message said. Raises ValueError for what is no such message."""

    __slots__ = ("bare", "client_nonce", "credential", "gs2_header", "is_known", "server_first", "server_nonce", "user")

    def __init__(self, text: str) -> None:
        binding, authorization, name, nonce, *_ = [*text.split(","), "", "", ""]
        if binding not in ("n", "y"):  # "p=": the client insists on channel binding, which is not offered
            raise ValueError("channel binding")
        self.gs2_header = f"{binding},{authorization},"
        self.bare = text[len(self.gs2_header) :]
        if not name.startswith("n=") or not nonce.startswith("r=") or len(nonce) == 2:
            raise ValueError("client first")
        self.user = _plain_name(name[2:])
        if authorization and _plain_name(authorization.removeprefix("a=")) != self.user:
            raise ValueError("authorization id")
        self.client_nonce = nonce[2:]
        self.credential: Credential
        self.is_known = False
        self.server_nonce = self.server_first = ""


def _plain_name(text: str) -> str:
    """RFC 5802: `=2C` is a comma and `=3D` an equals sign; no other `=` may occur."""
    if not text or "=" in text.replace("=2C", "").replace("=3D", ""):
        raise ValueError("user name")
    return text.replace("=2C", ",").replace("=3D", "=")


def _proves(credential: Credential, signed: bytes, proof: bytes) -> bool:
    name = credential.mechanism.hash_name
    signature = hmac.digest(credential.stored_key, signed, name)
    if len(proof) != len(signature):
        return False
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(new_hash(name, client_key).digest(), credential.stored_key)
