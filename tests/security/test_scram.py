"""SASL exchanges against the vectors of RFC 5802 and RFC 7677, and against everything that is not one."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.security.credentials import Credential, CredentialKey, Credentials, ScramMechanism, salt_password
from logqueue.security.sasl import AuthenticationFailed, Scram, start_exchange

SHA_256 = ScramMechanism.SCRAM_SHA_256
SHA_512 = ScramMechanism.SCRAM_SHA_512
DECOY_KEY = b"secret of this broker"

# RFC 7677, section 3.
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def known(**passwords: str) -> Credentials:
    return Credentials(
        [
            (
                CredentialKey(user, mechanism),
                Credential.from_password(mechanism, password, salt=SALT, iterations=4096),
            )
            for user, password in passwords.items()
            for mechanism in ScramMechanism
        ],
        decoy_key=DECOY_KEY,
    )


USERS = known(user="pencil")


def exchange(users: Credentials = USERS, mechanism: ScramMechanism = SHA_256) -> Scram:
    return Scram(mechanism, users, new_nonce=lambda: SERVER_NONCE)


def log_in(server: Scram, user: str, password: str, mechanism: ScramMechanism = SHA_256) -> bytes:
    """What a client does, from RFC 5802 and in other words than the server's."""
    import hashlib
    import hmac

    hash_name = mechanism.hash_name
    bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r=abc"
    first = server.respond(f"n,,{bare}".encode()).decode()
    fields = dict(part.split("=", 1) for part in first.split(","))
    salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), b64decode(fields["s"]), int(fields["i"]))
    client_key = hmac.new(salted, b"Client Key", hash_name).digest()
    without_proof = f"c=biws,r={fields['r']}"
    message = f"{bare},{first},{without_proof}".encode()
    signature = hmac.new(hashlib.new(hash_name, client_key).digest(), message, hash_name).digest()
    proof = b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    final = server.respond(f"{without_proof},p={proof}".encode())
    server_key = hmac.new(salted, b"Server Key", hash_name).digest()
    assert final == b"v=" + b64encode(hmac.new(server_key, message, hash_name).digest())
    return final


def test_the_exchange_of_rfc_7677() -> None:
    server = exchange()
    assert server.respond(CLIENT_FIRST) == SERVER_FIRST
    assert server.user is None
    assert server.respond(CLIENT_FINAL) == SERVER_FINAL
    assert server.user == "user"


def test_the_salted_password_of_rfc_5802_in_sha_256() -> None:
    salted = salt_password(SHA_256, "pencil", salt=SALT, iterations=4096)
    assert b64encode(salted) == b"xKSVEDI6tPlSysH6mUQZOeeOp01r6B3fcJbodRPcYV0="


@pytest.mark.parametrize("mechanism", list(ScramMechanism))
@given(user=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10))
def test_every_user_name_gets_in_with_its_password(mechanism: ScramMechanism, user: str) -> None:
    credential = Credential.from_password(mechanism, "pass", salt=SALT, iterations=16)
    server = exchange(Credentials([(CredentialKey(user, mechanism), credential)], decoy_key=DECOY_KEY), mechanism)
    log_in(server, user, "pass", mechanism)
    assert server.user == user


def test_a_wrong_password_and_an_unknown_user_fail_alike() -> None:
    texts = set()
    for user in ("user", "nobody"):
        server = exchange()
        with pytest.raises(AuthenticationFailed) as failure:
            log_in(server, user, "wrong")
        assert server.user is None
        texts.add(failure.value.detail)
    assert len(texts) == 1


def test_an_unknown_user_is_shown_the_same_salt_each_time_and_usual_iterations() -> None:
    first, second = (exchange().respond(b"n,,n=nobody,r=abc") for _ in range(2))
    assert first == second
    assert first.endswith(b",i=4096")
    other = exchange().respond(b"n,,n=nobody2,r=abc")
    assert other != first


def test_many_users_make_none_slow() -> None:
    keys = [CredentialKey(f"user{n}", mechanism) for n in range(20_000) for mechanism in ScramMechanism]
    credential = USERS.find("user", SHA_256)[0]
    users = Credentials(((key, credential) for key in keys), decoy_key=DECOY_KEY)
    began = time.process_time()
    for n in range(0, 20_000, 10):
        assert users.of(f"user{n}").keys() == set(ScramMechanism)
        assert not users.find(f"stranger{n}", SHA_256)[1]
    assert time.process_time() - began < 5, "each look went over all of them"


def test_the_usual_iterations_are_those_of_the_users_there_are_now() -> None:
    users = known(one="pencil")
    assert users.find("nobody", SHA_512)[0].iterations == 4096
    more = Credential.from_password(SHA_512, "pencil", salt=SALT, iterations=5000)
    users.replace([(CredentialKey("two", SHA_512), more)])
    assert users.find("nobody", SHA_512)[0].iterations == 5000
    assert users.of("one") == {}


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"n",
        b"n,,",
        b"p=tls-unique,,n=user,r=abc",  # channel binding is not offered
        b"n,a=other,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user",
        b"n,,m=ext,n=user,r=abc",
        b"\xff\xfe",
    ],
)
def test_what_is_no_first_message_fails(token: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        exchange().respond(token)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        CLIENT_FINAL.replace(b"c=biws", b"c=eSws"),  # binding of another header
        CLIENT_FINAL.replace(b"hNlF$k0", b"hNlF$k1"),
        CLIENT_FINAL.replace(b"p=dHzb", b"p=xHzb"),
        CLIENT_FINAL[:-4],
        CLIENT_FINAL.replace(b",p=", b",q="),
        b"c=biws,p=abcd",
        b"\xff",
    ],
)
def test_what_is_no_final_message_fails(token: bytes) -> None:
    server = exchange()
    server.respond(CLIENT_FIRST)
    with pytest.raises(AuthenticationFailed):
        server.respond(token)
    assert server.user is None


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_no_bytes_get_in_or_break_it(tokens: list[bytes]) -> None:
    server = exchange()
    try:
        for token in tokens:
            server.respond(token)
    except AuthenticationFailed:
        pass
    assert server.user is None


@pytest.mark.parametrize("token", [b"\0user\0pencil", b"user\0user\0pencil"])
def test_plain_takes_the_password_of_the_stored_credential(token: bytes) -> None:
    server = start_exchange("PLAIN", USERS, new_nonce=lambda: "")
    assert server.respond(token) == b""
    assert server.user == "user"


def test_plain_does_not_tell_a_wrong_password_from_an_unknown_user() -> None:
    texts = set()
    for token in (b"\0user\0wrong", b"\0nobody\0wrong"):
        with pytest.raises(AuthenticationFailed) as failure:
            start_exchange("PLAIN", USERS, new_nonce=lambda: "").respond(token)
        texts.add(failure.value.detail)
    assert texts == {"Authentication failed: Invalid username or password"}


@pytest.mark.parametrize(
    "token", [b"", b"user", b"\0user\0", b"\0\0x", b"other\0user\0pencil", b"\xff\0\xff\0\xff", b"\0" * 9]
)
def test_what_is_no_plain_token_fails(token: bytes) -> None:
    server = start_exchange("PLAIN", USERS, new_nonce=lambda: "")
    with pytest.raises(AuthenticationFailed):
        server.respond(token)
    assert server.user is None


def test_no_secret_is_in_the_text_of_a_credential() -> None:
    text = repr(USERS.by_key) + str(USERS.find("user", SHA_512))
    for credential in USERS.by_key.values():
        for secret in (credential.salt, credential.stored_key, credential.server_key):
            assert repr(secret)[2:-1] not in text
