"""SCRAM credentials as they are kept: salted and hashed, never the password (RFC 5802, RFC 7677, KIP-84). Pure."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import new as new_hash
from hashlib import pbkdf2_hmac
from typing import NamedTuple

from logqueue.errors import ErrorCode, KafkaError

MIN_ITERATIONS = 4096
MAX_ITERATIONS = 16_384
MAX_CREDENTIALS = 100_000  # of one broker: everything is kept in memory and written whole
SALT_BYTES = 32


class ScramMechanism(IntEnum):
    """The mechanisms by Kafka's codes (KIP-554)."""

    SCRAM_SHA_256 = 1
    SCRAM_SHA_512 = 2

    @property
    def sasl_name(self) -> str:
        return self.name.replace("_", "-")

    @property
    def hash_name(self) -> str:
        return "sha256" if self is ScramMechanism.SCRAM_SHA_256 else "sha512"


SCRAM_NAMES = {mechanism.sasl_name: mechanism for mechanism in ScramMechanism}


class UnacceptableCredential(KafkaError):
    """A credential that must not be stored."""

    code = ErrorCode.UNACCEPTABLE_CREDENTIAL


class CredentialKey(NamedTuple):
    """Whose credential, for which mechanism."""

    user: str
    mechanism: ScramMechanism


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a server has to know to check a password. Its text shows no secret, so that no log line can."""

    mechanism: ScramMechanism
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    iterations: int

    @classmethod
    def from_salted(
        cls, mechanism: ScramMechanism, *, salt: bytes, salted_password: bytes, iterations: int
    ) -> Credential:
        """From the salted password that AlterUserScramCredentials carries."""
        client_key = hmac.digest(salted_password, b"Client Key", mechanism.hash_name)
        return cls(
            mechanism=mechanism,
            salt=salt,
            stored_key=new_hash(mechanism.hash_name, client_key).digest(),
            server_key=hmac.digest(salted_password, b"Server Key", mechanism.hash_name),
            iterations=iterations,
        )

    @classmethod
    def from_password(cls, mechanism: ScramMechanism, password: str, *, salt: bytes, iterations: int) -> Credential:
        """From a password; costs `iterations` hashes (milliseconds)."""
        salted = salt_password(mechanism, password, salt=salt, iterations=iterations)
        return cls.from_salted(mechanism, salt=salt, salted_password=salted, iterations=iterations)

    def has_password(self, password: str) -> bool:
        """Whether this is the password, compared in constant time; costs `iterations` hashes (milliseconds)."""
        salted = salt_password(self.mechanism, password, salt=self.salt, iterations=self.iterations)
        client_key = hmac.digest(salted, b"Client Key", self.mechanism.hash_name)
        return hmac.compare_digest(new_hash(self.mechanism.hash_name, client_key).digest(), self.stored_key)


def salt_password(mechanism: ScramMechanism, password: str, *, salt: bytes, iterations: int) -> bytes:
    """`Hi(password, salt, i)` of RFC 5802. Like Kafka, without SASLprep: the password's UTF-8 bytes are taken."""
    return pbkdf2_hmac(mechanism.hash_name, password.encode(), salt, iterations)


def check_credential(user: str, mechanism: int, *, iterations: int) -> ScramMechanism:
    """The mechanism, if such a credential may be stored. Raises KafkaError with Kafka's code."""
    known = check_name(user, mechanism)
    if iterations < MIN_ITERATIONS:
        raise UnacceptableCredential("Too few iterations")
    if iterations > MAX_ITERATIONS:
        raise UnacceptableCredential("Too many iterations")
    return known


def check_name(user: str, mechanism: int) -> ScramMechanism:
    """The mechanism of a credential that is named. Raises KafkaError with Kafka's code."""
    if not user:
        raise UnacceptableCredential("Username must not be empty")
    try:
        return ScramMechanism(mechanism)
    except ValueError:
        raise KafkaError("Unknown SCRAM mechanism", code=ErrorCode.UNSUPPORTED_SASL_MECHANISM) from None


class Credentials:
    """The credentials of a broker, and decoys for users that do not exist."""

    def __init__(self, items: Iterable[tuple[CredentialKey, Credential]] = (), *, decoy_key: bytes) -> None:
        """`decoy_key` makes the salts of unknown users: it has to be secret and outlive restarts."""
        self.decoy_key = decoy_key
        self.replace(items)

    def replace(self, items: Iterable[tuple[CredentialKey, Credential]]) -> None:
        """Make these the only credentials."""
        self.by_key = dict(items)
        usual = Counter(credential.iterations for credential in self.by_key.values()).most_common(1)
        self._usual_iterations = usual[0][0] if usual else MIN_ITERATIONS

    def find(self, user: str, mechanism: ScramMechanism) -> tuple[Credential, bool]:
        """(credential, whether the user has one); an unknown user gets a decoy that no password opens."""
        found = self.by_key.get(CredentialKey(user, mechanism))
        return (self._decoy(user, mechanism), False) if found is None else (found, True)

    def find_any(self, user: str) -> tuple[Credential, bool]:
        """The user's credential of the strongest mechanism, for PLAIN; a decoy if there is none."""
        for mechanism in (ScramMechanism.SCRAM_SHA_512, ScramMechanism.SCRAM_SHA_256):
            if CredentialKey(user, mechanism) in self.by_key:
                return self.by_key[CredentialKey(user, mechanism)], True
        return self._decoy(user, ScramMechanism.SCRAM_SHA_512), False

    def of(self, user: str) -> dict[ScramMechanism, Credential]:
        """Everything a user has, by mechanism."""
        found = ((mechanism, self.by_key.get(CredentialKey(user, mechanism))) for mechanism in ScramMechanism)
        return {mechanism: credential for mechanism, credential in found if credential is not None}

    def _decoy(self, user: str, mechanism: ScramMechanism) -> Credential:
        # Looks like what the other users of this broker have: the same salt every time, the usual iterations.
        name = f"{mechanism.sasl_name} {user}".encode()
        return Credential(
            mechanism=mechanism,
            salt=hmac.digest(self.decoy_key, name, "sha256")[:SALT_BYTES],
            stored_key=hmac.digest(self.decoy_key, b"stored " + name, mechanism.hash_name),
            server_key=hmac.digest(self.decoy_key, b"server " + name, mechanism.hash_name),
            iterations=self._usual_iterations,
        )
