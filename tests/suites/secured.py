"""A log for suites whose clients have to encrypt and log in: certificate, user, and both engines' settings for them.

Beside the guarded listener there is a plain one, for tools that a suite calls without telling them how to log in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engines import apache, embedded
from tests.security.authority import Authority

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
USER, PASSWORD = "suite", "suite's secret"
SCRAM_ITERATIONS = 4096
ADMIN_SECONDS = 30.0

_LOGIN_MODULES = {
    "PLAIN": f'plain.PlainLoginModule required user_{USER}="{PASSWORD}"',
    "SCRAM-SHA-256": "scram.ScramLoginModule required",
    "SCRAM-SHA-512": "scram.ScramLoginModule required",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A running log: where the suite's clients go and what they need for it, and where plain tools go."""

    bootstrap: str
    tools_bootstrap: str
    client_settings: tuple[str, ...] = ()


@contextmanager
def secured_log(
    engine: str, folder: Path, settings: Mapping[str, str], *, protocol: str, mechanism: str
) -> Iterator[Log]:
    """Run an engine with a listener of this protocol; `mechanism` counts where the protocol has SASL."""
    if protocol == "PLAINTEXT":
        start = {"embedded": embedded.embedded, "apache": apache.apache_kafka}[engine]
        with start(folder, settings) as bootstrap:
            yield Log(bootstrap=bootstrap, tools_bootstrap=bootstrap)
        return
    authority = Authority.make(folder)
    keys = authority.issue("localhost", hosts=("localhost", "127.0.0.1"))
    plain, guarded, controller = apache.free_ports(3)
    listeners = f"PLAINTEXT://127.0.0.1:{plain},{protocol}://127.0.0.1:{guarded}"
    settings = {**settings, "ssl.keystore.type": "PEM", "ssl.keystore.location": str(keys)}
    settings |= {"listeners": listeners, "sasl.enabled.mechanisms": ",".join(MECHANISMS)}
    if engine == "apache":
        settings |= _apache_settings(listeners, controller=controller, protocol=protocol)
        with apache.node_from_jars(folder, settings, ports=(plain, controller)) as (tools_bootstrap, _):
            yield _log(tools_bootstrap, guarded, authority, protocol, mechanism)
    else:
        with embedded.embedded(folder, settings) as tools_bootstrap:
            yield _log(tools_bootstrap, guarded, authority, protocol, mechanism)


def _apache_settings(listeners: str, *, controller: int, protocol: str) -> dict[str, str]:
    found = {
        "advertised.listeners": listeners,
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
    }
    if protocol.startswith("SASL"):
        for mechanism, module in _LOGIN_MODULES.items():
            name = f"listener.name.{protocol.lower()}.{mechanism.lower()}.sasl.jaas.config"
            found[name] = f"org.apache.kafka.common.security.{module};"
    return found


def _log(tools_bootstrap: str, port: int, authority: Authority, protocol: str, mechanism: str) -> Log:
    settings = [f"security.protocol={protocol}"]
    if protocol.endswith("SSL"):
        settings.append(f"ssl.ca.location={authority.path}")
    if protocol.startswith("SASL"):
        _add_user(tools_bootstrap)
        settings += [f"sasl.mechanism={mechanism}", f"sasl.username={USER}", f"sasl.password={PASSWORD}"]
    return Log(bootstrap=f"127.0.0.1:{port}", tools_bootstrap=tools_bootstrap, client_settings=tuple(settings))


def _add_user(bootstrap: str) -> None:
    """Store the user's credentials through Kafka's API (KIP-554), one mechanism a request, as Kafka wants it."""
    from confluent_kafka.admin import (  # type: ignore[attr-defined]  # two are missing in __all__
        AdminClient,
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialUpsertion,
    )

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        upsertion = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(mechanism, SCRAM_ITERATIONS), PASSWORD.encode()
        )
        for stored in admin.alter_user_scram_credentials([upsertion], request_timeout=ADMIN_SECONDS).values():
            stored.result(ADMIN_SECONDS)
