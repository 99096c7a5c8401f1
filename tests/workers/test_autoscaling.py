"""What autoscalers read, and the example that reads it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from logqueue_api.cli.arguments import Parser, seconds
from logqueue_api.cli.commands import worker
from logqueue_api.rest.metrics import ApiMetrics, GroupLoad
from logqueue_api.rest.models import GroupDocument
from logqueue_consumers.view.job import State
from logqueue_consumers.view.reader import QueueSummary

NOW_MS = 1_700_000_000_000


def rendered() -> str:
    summary = QueueSummary(queue="mail", counts={State.QUEUED: 3}, oldest_ms={State.QUEUED: NOW_MS - 42_000})
    text = ApiMetrics().render(
        [summary],
        now_ms=NOW_MS,
        groups=[GroupLoad("shop", "mail", 7), GroupLoad("audit", "mail", 0)],
        workers={("shop", "running"): 2, ("shop", "lost"): 1},
        conditions={("mail", "stuck"): 1},
    )
    return text.decode()


def test_metrics_tell_what_each_group_has_to_do_and_how_long_it_waits() -> None:
    text = rendered()
    assert 'logqueue_group_incomplete{group="shop",queue="mail"} 7.0' in text
    assert 'logqueue_group_oldest_queued_seconds{group="shop",queue="mail"} 42.0' in text
    assert 'logqueue_group_oldest_queued_seconds{group="audit",queue="mail"} 0.0' in text, "it has finished them"
    assert 'logqueue_workers{group="shop",state="lost"} 1.0' in text
    assert 'logqueue_jobs_in_trouble{condition="stuck",queue="mail"} 1.0' in text


def test_the_keda_example_reads_what_there_is(repository: Path) -> None:
    deployment, scaled = yaml.safe_load_all((repository / "deploy" / "keda.yaml").read_text())
    assert scaled["kind"] == "ScaledObject"
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    by_type = {trigger["type"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}
    assert by_type["metrics-api"]["valueLocation"] in GroupDocument.model_fields
    assert "/v1/groups/" in by_type["metrics-api"]["url"]
    metric = re.search(r"logqueue_\w+", by_type["prometheus"]["query"])
    assert metric is not None
    assert f"\n{metric.group()}{{" in rendered()


def test_the_worker_of_the_example_can_be_started_and_is_left_time_to_drain(repository: Path) -> None:
    deployment = next(yaml.safe_load_all((repository / "deploy" / "keda.yaml").read_text()))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, *words = container["args"]
    parser = Parser()
    worker.add_arguments(parser)
    options = parser.parse_args(words)
    assert command == "worker"
    assert options.health_port == container["livenessProbe"]["httpGet"]["port"]
    assert options.drain_timeout == seconds("45s") < pod["terminationGracePeriodSeconds"]
