"""The client's side of SCRAM (RFC 5802), for our own tools. Pure."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import new as new_hash

from logqueue.security.credentials import MIN_ITERATIONS, SCRAM_NAMES, salt_password
from logqueue.security.sasl import AuthenticationFailed

MAX_ITERATIONS = 1_000_000  # a server that asks for more wants to keep us busy


class ScramClient:
    """One exchange: `first()`, then `final(server_first)`, then `verify(server_final)`."""

    def __init__(self, mechanism: str, user: str, password: str, *, nonce: str) -> None:
        self._mechanism = SCRAM_NAMES[mechanism]
        self._password = password
        self._nonce = nonce
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self._signature = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """The proof. Raises AuthenticationFailed for a server that does not keep to the protocol."""
        text = server_first.decode(errors="replace")
        fields = dict(part.partition("=")[::2] for part in text.split(","))
        try:
            nonce, salt, iterations = fields["r"], b64decode(fields["s"], validate=True), int(fields["i"])
        except (KeyError, ValueError):
            raise AuthenticationFailed(f"the server's answer is no SCRAM message: {text!r}") from None
        if not nonce.startswith(self._nonce) or not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise AuthenticationFailed("the server's nonce or iterations cannot be accepted")
        name = self._mechanism.hash_name
        salted = salt_password(self._mechanism, self._password, salt=salt, iterations=iterations)
        client_key = hmac.digest(salted, b"Client Key", name)
        without_proof = f"c=biws,r={nonce}"
        signed = f"{self._bare},{text},{without_proof}".encode()
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)
        mask = hmac.digest(new_hash(name, client_key).digest(), signed, name)
        proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """Raise AuthenticationFailed unless the server knows the password too."""
        if not hmac.compare_digest(server_final, b"v=" + b64encode(self._signature)):
            raise AuthenticationFailed("the server did not prove that it knows the password")
