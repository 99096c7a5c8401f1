"""Everything that security keeps, as one value and as text: credentials, ACLs, quotas. Touches no file.

    logqueue-security 1 <CRC-32C of the rest, 8 hex digits>
    {"decoy_key": ..., "credentials": [...], "acls": [...], "quotas": [...]}

Keys, salts and the decoy key are base64.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crc32c import crc32c

from logqueue.errors import LogqueueError
from logqueue.security.acl import Acl, Operation, PatternType, Permission, ResourceType
from logqueue.security.credentials import Credential, CredentialKey, ScramMechanism
from logqueue.security.quota import Entity

MAGIC = "logqueue-security"
VERSION = 1


class DamagedState(LogqueueError):
    """Text that is no security state, or one of a newer version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityState:
    """What a broker knows about its users; replaced as a whole."""

    decoy_key: bytes = field(repr=False)
    credentials: Mapping[CredentialKey, Credential] = field(default_factory=dict)
    acls: frozenset[Acl] = frozenset()
    quotas: Mapping[Entity, Mapping[str, float]] = field(default_factory=dict)


def dump(state: SecurityState) -> bytes:
    """The text of a state."""
    document = {
        "decoy_key": _text(state.decoy_key),
        "credentials": [_dump_credential(*item) for item in sorted(state.credentials.items(), key=lambda i: i[0])],
        "acls": [_dump_acl(acl) for acl in sorted(state.acls)],
        "quotas": [
            {"entity": sorted(map(list, entity), key=str), "values": dict(values)}
            for entity, values in sorted(state.quotas.items(), key=lambda item: sorted(map(str, item[0])))
        ],
    }
    body = json.dumps(document, indent=1).encode() + b"\n"
    return f"{MAGIC} {VERSION} {crc32c(body):08x}\n".encode() + body


def load(content: bytes) -> SecurityState:
    """The state that a text holds. Raises DamagedState."""
    head, _, body = content.partition(b"\n")
    words = head.decode(errors="replace").split(" ")
    if len(words) != 3 or words[0] != MAGIC or not words[1].isdecimal():
        raise DamagedState("it does not begin as it should")
    if int(words[1]) > VERSION:
        raise DamagedState(f"it has version {words[1]}, and this logqueue knows up to {VERSION}")
    if words[2] != f"{crc32c(body):08x}":
        raise DamagedState("its checksum does not match")
    try:
        document = json.loads(body)
        return SecurityState(
            decoy_key=b64decode(document["decoy_key"]),
            credentials=dict(map(_load_credential, document["credentials"])),
            acls=frozenset(map(_load_acl, document["acls"])),
            quotas={
                frozenset((kind, name) for kind, name in entry["entity"]): dict(entry["values"])
                for entry in document["quotas"]
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedState(f"it cannot be understood ({error!r})") from None


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _dump_credential(key: CredentialKey, credential: Credential) -> dict[str, Any]:
    return {
        "user": key.user,
        "mechanism": key.mechanism.sasl_name,
        "iterations": credential.iterations,
        "salt": _text(credential.salt),
        "stored_key": _text(credential.stored_key),
        "server_key": _text(credential.server_key),
    }


def _load_credential(entry: dict[str, Any]) -> tuple[CredentialKey, Credential]:
    mechanism = ScramMechanism[entry["mechanism"].replace("-", "_")]
    credential = Credential(
        mechanism=mechanism,
        salt=b64decode(entry["salt"]),
        stored_key=b64decode(entry["stored_key"]),
        server_key=b64decode(entry["server_key"]),
        iterations=int(entry["iterations"]),
    )
    return CredentialKey(entry["user"], mechanism), credential


def _dump_acl(acl: Acl) -> dict[str, str]:
    return {
        "resource_type": acl.resource_type.name,
        "name": acl.name,
        "pattern": acl.pattern.name,
        "principal": acl.principal,
        "host": acl.host,
        "operation": acl.operation.name,
        "permission": acl.permission.name,
    }


def _load_acl(entry: dict[str, str]) -> Acl:
    return Acl(
        resource_type=ResourceType[entry["resource_type"]],
        name=entry["name"],
        pattern=PatternType[entry["pattern"]],
        principal=entry["principal"],
        host=entry["host"],
        operation=Operation[entry["operation"]],
        permission=Permission[entry["permission"]],
    )
