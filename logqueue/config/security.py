"""Settings of listeners, authentication, authorization, quotas and limits, with Kafka's names where Kafka has one."""

from __future__ import annotations

from logqueue.config.properties import INT_MAX, ConfigType, Properties, Scope, setting

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
STANDARD_AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"


class SecurityConfig(Properties):
    """The part of the broker's configuration that decides who gets in, what for, and how much."""

    listeners: tuple[str, ...] = setting(
        (),
        "listeners",
        ConfigType.LIST,
        "Addresses to listen on, as NAME://host:port; without any: PLAINTEXT on host.name and port.",
    )
    advertised_listeners: tuple[str, ...] = setting(
        (),
        "advertised.listeners",
        ConfigType.LIST,
        "Addresses to tell clients, as NAME://host:port; a listener that is not named tells its own.",
    )
    listener_security_protocol_map: tuple[str, ...] = setting(
        ("PLAINTEXT:PLAINTEXT", "SSL:SSL", "SASL_PLAINTEXT:SASL_PLAINTEXT", "SASL_SSL:SASL_SSL"),
        "listener.security.protocol.map",
        ConfigType.LIST,
        "The protocol of each listener name, as NAME:PROTOCOL.",
    )
    sasl_enabled_mechanisms: tuple[str, ...] = setting(
        ("SCRAM-SHA-256", "SCRAM-SHA-512"),
        "sasl.enabled.mechanisms",
        ConfigType.LIST,
        "SASL mechanisms that clients may use. PLAIN is checked against the stored SCRAM credentials.",
        choices=MECHANISMS,
    )
    sasl_server_max_receive_size: int = setting(
        524_288,
        "sasl.server.max.receive.size",
        ConfigType.INT,
        "Largest request of a client that has not authenticated yet.",
        minimum=1,
        maximum=INT_MAX,
    )
    connections_max_reauth_ms: int = setting(
        0,
        "connections.max.reauth.ms",
        ConfigType.LONG,
        "How long a SASL session lasts before its client has to authenticate again; 0: for ever (KIP-368).",
        minimum=0,
    )
    connection_failed_authentication_delay_ms: int = setting(
        100,
        "connection.failed.authentication.delay.ms",
        ConfigType.INT,
        "Wait before a failed authentication is answered.",
        minimum=0,
        maximum=60_000,
    )
    authentication_timeout_ms: int = setting(
        10_000,
        "logqueue.authentication.timeout.ms",
        ConfigType.INT,
        "How long a connection may take for TLS and SASL before it is closed.",
        minimum=100,
        maximum=INT_MAX,
    )
    frame_timeout_ms: int = setting(
        30_000,
        "logqueue.frame.timeout.ms",
        ConfigType.INT,
        "How long a request may take to arrive; one that goes on at 64 KiB in that time is let be.",
        minimum=100,
        maximum=INT_MAX,
    )
    ssl_keystore_type: str = setting(
        "PEM", "ssl.keystore.type", ConfigType.STRING, "Format of the key store.", choices=("PEM",)
    )
    ssl_keystore_location: str = setting(
        "",
        "ssl.keystore.location",
        ConfigType.STRING,
        "PEM file with the private key and the certificate chain; when it changes, new connections get what is new.",
        scope=Scope.PER_BROKER,
    )
    ssl_keystore_certificate_chain: str = setting(
        "", "ssl.keystore.certificate.chain", ConfigType.PASSWORD, "The certificate chain itself, as PEM."
    )
    ssl_keystore_key: str = setting("", "ssl.keystore.key", ConfigType.PASSWORD, "The private key itself, as PEM.")
    ssl_key_password: str = setting("", "ssl.key.password", ConfigType.PASSWORD, "Password of the private key.")
    ssl_truststore_type: str = setting(
        "PEM", "ssl.truststore.type", ConfigType.STRING, "Format of the trust store.", choices=("PEM",)
    )
    ssl_truststore_location: str = setting(
        "",
        "ssl.truststore.location",
        ConfigType.STRING,
        "PEM file with the authorities that sign client certificates.",
        scope=Scope.PER_BROKER,
    )
    ssl_truststore_certificates: str = setting(
        "", "ssl.truststore.certificates", ConfigType.PASSWORD, "The authorities themselves, as PEM."
    )
    ssl_client_auth: str = setting(
        "none",
        "ssl.client.auth",
        ConfigType.STRING,
        "Whether clients of SSL listeners show a certificate.",
        choices=("none", "requested", "required"),
        scope=Scope.PER_BROKER,
    )
    ssl_enabled_protocols: tuple[str, ...] = setting(
        ("TLSv1.2", "TLSv1.3"),
        "ssl.enabled.protocols",
        ConfigType.LIST,
        "Versions of TLS that are spoken.",
        choices=("TLSv1.2", "TLSv1.3"),
        scope=Scope.PER_BROKER,
    )
    ssl_principal_mapping_rules: str = setting(
        "DEFAULT",
        "ssl.principal.mapping.rules",
        ConfigType.STRING,
        "How a certificate's subject becomes a name: DEFAULT is the whole subject (RFC 2253).",
        choices=("DEFAULT",),
    )
    authorizer_class_name: str = setting(
        "",
        "authorizer.class.name",
        ConfigType.STRING,
        f"{STANDARD_AUTHORIZER} turns ACLs on; empty: everybody may do everything.",
        choices=("", STANDARD_AUTHORIZER),
    )
    super_users: str = setting(
        "", "super.users", ConfigType.STRING, "Principals that may do everything, as User:a;User:b."
    )
    allow_everyone_if_no_acl_found: bool = setting(
        False,
        "allow.everyone.if.no.acl.found",
        ConfigType.BOOLEAN,
        "Whether everybody may do everything to a resource without ACLs.",
    )
    quota_window_num: int = setting(
        11,
        "quota.window.num",
        ConfigType.INT,
        "Windows that a client's rate is measured over.",
        minimum=1,
        maximum=1000,
    )
    quota_window_size_seconds: int = setting(
        1, "quota.window.size.seconds", ConfigType.INT, "Length of each of them.", minimum=1, maximum=3600
    )
    controller_quota_window_num: int = setting(
        11,
        "controller.quota.window.num",
        ConfigType.INT,
        "Windows whose mutations a client may save up.",
        minimum=1,
        maximum=1000,
    )
    controller_quota_window_size_seconds: int = setting(
        1, "controller.quota.window.size.seconds", ConfigType.INT, "Length of each of them.", minimum=1, maximum=3600
    )
    max_connections_per_ip: int = setting(
        INT_MAX,
        "max.connections.per.ip",
        ConfigType.INT,
        "Connections of one address above which new ones are refused.",
        scope=Scope.CLUSTER,
        minimum=0,
        maximum=INT_MAX,
    )
    max_connections_per_ip_overrides: tuple[str, ...] = setting(
        (),
        "max.connections.per.ip.overrides",
        ConfigType.LIST,
        "The same for single addresses, as address:number.",
        scope=Scope.CLUSTER,
        allows=lambda pairs: all(part[0] and part[2].isdecimal() for part in (p.rpartition(":") for p in pairs)),
        allowed="wants address:number",
    )
    max_connection_creation_rate: int = setting(
        INT_MAX,
        "max.connection.creation.rate",
        ConfigType.INT,
        "Connections a second that are taken; the others wait (KIP-612).",
        scope=Scope.CLUSTER,
        minimum=1,
        maximum=INT_MAX,
    )
    queued_max_request_bytes: int = setting(
        -1,
        "queued.max.request.bytes",
        ConfigType.LONG,
        "Bytes of requests that are still arriving, in all, above which no further one is read; -1: no limit.",
        minimum=-1,
    )
    max_partitions: int = setting(
        100_000,
        "logqueue.max.partitions",
        ConfigType.INT,
        "Partitions of all topics above which none are created.",
        minimum=1,
        maximum=INT_MAX,
    )
