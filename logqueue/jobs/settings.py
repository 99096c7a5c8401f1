"""Where the log is and how to reach it: environment `LOGQUEUE_*` over one TOML file over defaults."""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from logqueue.errors import LogqueueError
from logqueue.jobs.durations import parse_duration
from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.topics import TopicNames

ENVIRONMENT_PREFIX = "LOGQUEUE_"
CONFIG_VARIABLE = "LOGQUEUE_CONFIG"
DEFAULT_FILE = "logqueue.toml"
DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")

EXACTLY_ONCE = "exactly_once"
AT_LEAST_ONCE = "at_least_once"
PROCESSINGS = (EXACTLY_ONCE, AT_LEAST_ONCE)
DEFAULT_PROCESSING = EXACTLY_ONCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a program reaches the log.

    Every field is an environment variable (`LOGQUEUE_` + its name in capitals) and a key of the TOML file.
    Times are seconds (text such as "250ms" in environment and file).
    """

    bootstrap: str = DEFAULT_BOOTSTRAP
    topic_prefix: str = ""
    client_id: str = "logqueue"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    compression: str = "none"
    connect_timeout_s: float = 15.0  # in all, over every attempt to reach a broker
    connect_backoff_s: float = 0.25  # first wait between two attempts; doubles up to 2 s
    send_timeout_s: float = 30.0  # for the log to confirm a record
    request_timeout_s: float = 20.0  # of one request to one broker
    max_record_bytes: int = 1_000_000  # largest job record that is sent; brokers take 1 MiB by default
    max_pending_records: int = 100_000  # records on their way that `send` may have before it waits
    processing: str | None = None  # of jobs: exactly_once or at_least_once; what the log can, if nothing is said
    schema_registry_url: str | None = None  # of a registry elsewhere (Confluent's API); None: the log's own topic
    schema_registry_user: str | None = None
    schema_registry_password: str | None = field(default=None, repr=False)
    cache_dir: str | None = None  # where workers keep what they can read again from the log; the user's cache folder

    def __post_init__(self) -> None:
        _one_of("security_protocol", self.security_protocol, SECURITY_PROTOCOLS)
        _one_of("sasl_mechanism", self.sasl_mechanism, SASL_MECHANISMS)
        _one_of("compression", self.compression, COMPRESSIONS)
        if self.processing is not None:
            _one_of("processing", self.processing, PROCESSINGS)
        _check_bootstrap(self.bootstrap)
        _check_registry(self.schema_registry_url)
        TopicNames(self.topic_prefix)
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise InvalidSetting(f"security_protocol {self.security_protocol} needs sasl_username and sasl_password")
        for name in ("connect_timeout_s", "connect_backoff_s", "send_timeout_s", "request_timeout_s"):
            if getattr(self, name) <= 0:
                raise InvalidSetting(f"{name} must be more than 0")
        for name in ("max_record_bytes", "max_pending_records"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name} must be at least 1")

    @property
    def topics(self) -> TopicNames:
        """The names of the topics under the configured prefix."""
        return TopicNames(self.topic_prefix)

    def connection(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client shares; InvalidSetting if a certificate cannot be read."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": int(self.request_timeout_s * 1000),
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile is not None:
                # Without a callback OpenSSL would ask at the terminal.
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, lambda: self.ssl_key_password or "")
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"ssl_cafile, ssl_certfile or ssl_keyfile cannot be used: {error}") from None
        return context


def load_settings(
    *,
    environ: Mapping[str, str] | None = None,
    file: str | Path | None = None,
    **overrides: Any,
) -> Settings:
    """Settings from overrides (command line) over the environment over the TOML file over defaults.

    The file is `file`, else `LOGQUEUE_CONFIG`, else `logqueue.toml` of the working directory if there is one.
    Overrides that are None do not count. Keys of the file that are tables belong to other parts and are skipped here.
    """
    env = os.environ if environ is None else environ
    values = _known(read_settings_file(environ=env, file=file))
    kinds = {f.name: f.type for f in fields(Settings)}
    for name in kinds:
        text = env.get(variable_name(name))
        if text is not None:
            values[name] = text
    values.update({name: value for name, value in overrides.items() if value is not None})
    return Settings(**{name: _convert(name, str(kinds[name]), value) for name, value in values.items()})


def read_settings_file(*, environ: Mapping[str, str] | None = None, file: str | Path | None = None) -> dict[str, Any]:
    """The TOML file as a dictionary, {} if there is none; InvalidSetting if one is named and cannot be read."""
    env = os.environ if environ is None else environ
    named = file if file is not None else env.get(CONFIG_VARIABLE)
    path = Path(named) if named else Path(DEFAULT_FILE)
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise InvalidSetting(f"Settings file {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"Settings file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"Settings file {path} is not TOML: {error}") from None


def variable_name(setting: str) -> str:
    """The environment variable of a setting: `LOGQUEUE_BOOTSTRAP`; a time's unit is not part of it."""
    return ENVIRONMENT_PREFIX + setting.removesuffix("_s").upper()


def _known(file: dict[str, Any]) -> dict[str, Any]:
    names = {f.name.removesuffix("_s"): f.name for f in fields(Settings)}
    found = {}
    for key, value in file.items():
        if isinstance(value, dict):
            continue
        if key not in names:
            raise InvalidSetting(f"Settings file: {key!r} is unknown; known are {', '.join(sorted(names))}")
        found[names[key]] = value
    return found


def _convert(name: str, kind: str, value: Any) -> Any:
    try:
        if kind == "float":
            return parse_duration(_number_or_text(value))
        if kind == "int":
            return int(value)
    except (ValueError, TypeError, LogqueueError) as error:
        raise InvalidSetting(f"{variable_name(name)}: {error}") from None
    if not isinstance(value, str):
        raise InvalidSetting(f"{variable_name(name)}: {value!r} is not text")
    return value


def _number_or_text(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidSetting(f"{variable_name(name)}: {value!r} is not one of {', '.join(allowed)}")


def _check_registry(url: str | None) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:  # a bracket that stays open, a port that is no number
        is_address = False
    if not is_address:
        raise InvalidSetting(f"LOGQUEUE_SCHEMA_REGISTRY_URL: {url!r} is not of the form http(s)://host[:port][/path]")
    if parts.username is not None:
        raise InvalidSetting(
            "LOGQUEUE_SCHEMA_REGISTRY_URL: name and password go into LOGQUEUE_SCHEMA_REGISTRY_USER and _PASSWORD"
        )


_PORT = re.compile("[0-9]{1,5}")


def _check_bootstrap(bootstrap: str) -> None:
    for server in bootstrap.split(","):
        host, separator, port = server.strip().rpartition(":")
        if not separator or not host or not _PORT.fullmatch(port) or not 0 < int(port) < 65_536:
            raise InvalidSetting(f"LOGQUEUE_BOOTSTRAP: {server.strip()!r} is not of the form host:port")
