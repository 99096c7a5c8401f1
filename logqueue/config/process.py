"""Broker settings of the process around the log: what it writes about itself, and where it tells its figures."""

from __future__ import annotations

from logqueue.config.properties import ConfigType, Properties, setting

METRICS_OFF = -1


class ProcessSettings(Properties):
    """Log lines and metrics."""

    log_level: str = setting(
        "warning",
        "logqueue.log.level",
        ConfigType.STRING,
        "Least severity of log lines.",
        choices=("debug", "info", "warning", "error"),
    )
    log_format: str = setting(
        "text",
        "logqueue.log.format",
        ConfigType.STRING,
        "Form of log lines: text for people, logfmt (key=value) or json for programs.",
        choices=("text", "logfmt", "json"),
    )
    metrics_host: str = setting(
        "127.0.0.1", "logqueue.metrics.host", ConfigType.STRING, "Address of /metrics and /healthz."
    )
    metrics_port: int = setting(
        METRICS_OFF,
        "logqueue.metrics.port",
        ConfigType.INT,
        "Port of /metrics and /healthz; 0 takes any free one, -1 has none.",
        minimum=METRICS_OFF,
        maximum=65_535,
    )
