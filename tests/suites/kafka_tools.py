"""A folder like an Apache Kafka release: `bin/` runs Apache Kafka's own tools, `libs/` holds its jars."""

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
    """Write `home/bin/*.sh` and link `home/libs`; the answer is `home`, what tests call KAFKA_PATH."""
    scripts = home / "bin"
    scripts.mkdir(parents=True, exist_ok=True)
    for name, main_class in TOOLS.items():
        main_classes = [main_class] if main_class else []
        command = shlex.join(["java", "-XX:TieredStopAtLevel=1", *main_classes])
        script = scripts / name
        script.write_text(f'#!/bin/sh\nexport CLASSPATH="$CLASSPATH:"{shlex.quote(class_path)}\nexec {command} "$@"\n')
        script.chmod(0o755)
    jars = home / "libs"
    if not jars.exists():
        jars.symlink_to(class_path.removesuffix("/*"), target_is_directory=True)
    return home
