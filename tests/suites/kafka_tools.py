"""A folder like the `bin/` of an Apache Kafka release: scripts that run Apache Kafka's own tools from its jars."""

from __future__ import annotations

import shlex
from pathlib import Path

TOOLS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs.sh": "org.apache.kafka.tools.ConfigCommand",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-run-class.sh": "",
}


def write_tools(home: Path, class_path: str) -> Path:
    """Write `home/bin/*.sh`; the answer is `home`, what tests call KAFKA_PATH."""
    scripts = home / "bin"
    scripts.mkdir(parents=True, exist_ok=True)
    for name, main_class in TOOLS.items():
        command = ["java", "-XX:TieredStopAtLevel=1", "-cp", class_path, *([main_class] if main_class else [])]
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)
    return home
