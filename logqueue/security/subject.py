"""The name that a certificate gives its owner, written as Java writes it (RFC 2253): the DEFAULT principal. Pure.

Attributes that have no short name there are told by their long one, as `ssl` does, and not by number and DER as Java
does; only the email address is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What RFC 2253 has a short name for; Java's `X500Principal.getName()` knows these and no others.
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_EMAIL = "1.2.840.113549.1.9.1"
_IA5_STRING = 0x16
_ESCAPES = str.maketrans({letter: f"\\{letter}" for letter in ',=+<>#;"\\'} | {"\0": "\\00"})


def distinguished_name(certificate: Mapping[str, Any]) -> str:
    """The subject of a certificate as `ssl` describes it (`getpeercert()`); empty if it has none."""
    relative = certificate.get("subject", ())
    return ",".join("+".join(_attribute(*pair) for pair in names) for names in reversed(relative))


def _attribute(kind: str, value: str) -> str:
    if kind in _SHORT:
        return f"{_SHORT[kind]}={_escape(value)}"
    if kind == "emailAddress":  # an attribute without a short name: its number and the DER of its value
        data = value.encode("ascii", "replace")
        return f"{_EMAIL}=#{bytes((_IA5_STRING, len(data) & 0xFF)).hex()}{data.hex()}"
    return f"{kind}={_escape(value)}"


def _escape(value: str) -> str:
    """As the JDK's `AVA.toRFC2253String`: special letters wherever they stand, and each space at either end."""
    text = value.strip(" ")
    before = len(value) - len(value.lstrip(" "))
    after = len(value) - before - len(text)
    return "\\ " * before + text.translate(_ESCAPES) + "\\ " * after
