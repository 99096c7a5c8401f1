"""Where the log is: environment over file over defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.settings import Settings, load_settings, variable_name


def _file(folder: Path, text: str) -> str:
    path = folder / "some.toml"
    path.write_text(text)
    return str(path)


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_defaults(tmp_path: Path) -> None:
    file = _file(tmp_path, 'bootstrap = "f:1"\ntopic_prefix = "f."\nclient_id = "f"\n[api]\nanything = 1\n')
    loaded = load_settings(
        environ={"LOGQUEUE_CONFIG": file, "LOGQUEUE_BOOTSTRAP": "e:1", "LOGQUEUE_TOPIC_PREFIX": "e."},
        bootstrap="c:1",
        client_id=None,
    )
    assert (loaded.bootstrap, loaded.topic_prefix, loaded.client_id) == ("c:1", "e.", "f")
    assert loaded.security_protocol == "PLAINTEXT"


def test_every_setting_can_be_given_in_environment_and_file(tmp_path: Path) -> None:
    texts = {"float": "1500ms", "int": "7", "str": "PLAINTEXT"}
    special = {"bootstrap": "h:1", "topic_prefix": "p", "sasl_mechanism": "PLAIN", "compression": "lz4"}
    special |= {"processing": "at_least_once", "schema_registry_url": "https://schemas.example:8081/v1"}
    for field in dataclasses.fields(Settings):
        kind = str(field.type).split(" ")[0]
        text = special.get(field.name, texts[kind])
        by_environment = load_settings(environ={variable_name(field.name): text})
        by_file = load_settings(environ={}, file=_file(tmp_path, f'{field.name.removesuffix("_s")} = "{text}"'))
        expected = {"float": 1.5, "int": 7}.get(kind, text)
        assert getattr(by_environment, field.name) == getattr(by_file, field.name) == expected


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LOGQUEUE_BOOTSTRAP": "nowhere"}, "'nowhere' is not of the form host:port"),
        ({"LOGQUEUE_BOOTSTRAP": "a:1,b:99999"}, "'b:99999'"),
        ({"LOGQUEUE_SEND_TIMEOUT": "soon"}, "LOGQUEUE_SEND_TIMEOUT"),
        ({"LOGQUEUE_SEND_TIMEOUT": "0"}, "send_timeout"),
        ({"LOGQUEUE_MAX_RECORD_BYTES": "1MB"}, "LOGQUEUE_MAX_RECORD_BYTES"),
        ({"LOGQUEUE_SECURITY_PROTOCOL": "TLS"}, "LOGQUEUE_SECURITY_PROTOCOL"),
        ({"LOGQUEUE_SECURITY_PROTOCOL": "SASL_SSL"}, "sasl_username"),
        ({"LOGQUEUE_SCHEMA_REGISTRY_URL": "schemas:8081"}, "LOGQUEUE_SCHEMA_REGISTRY_URL"),
        ({"LOGQUEUE_SCHEMA_REGISTRY_URL": "http://me:secret@schemas:8081"}, "LOGQUEUE_SCHEMA_REGISTRY_USER"),
        ({"LOGQUEUE_SCHEMA_REGISTRY_URL": "http://schemas:8o81"}, "LOGQUEUE_SCHEMA_REGISTRY_URL"),
        ({"LOGQUEUE_SCHEMA_REGISTRY_URL": "http://[schemas:8081"}, "LOGQUEUE_SCHEMA_REGISTRY_URL"),
        ({"LOGQUEUE_BOOTSTRAP": "a:\u00b2"}, "LOGQUEUE_BOOTSTRAP"),
        ({"LOGQUEUE_BOOTSTRAP": "a:" + "9" * 5_000}, "LOGQUEUE_BOOTSTRAP"),
        ({"LOGQUEUE_CONFIG": "/nowhere/x.toml"}, "/nowhere/x.toml"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load_settings(environ=environ)
    assert named in str(refused.value)


@pytest.mark.parametrize("text", ["bootstrap = ", 'boot = "a:1"', "bootstrap = 5"])
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSetting):
        load_settings(environ={}, file=_file(tmp_path, text))


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()


def test_credentials_reach_the_client() -> None:
    settings = Settings(security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password="p")
    assert settings.connection()["sasl_plain_username"] == "u"
    assert "ssl_context" in Settings(security_protocol="SSL").connection()


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="ssl_cafile"):
        Settings(security_protocol="SSL", ssl_cafile="/nowhere/ca.pem").connection()
