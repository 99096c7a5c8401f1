"""The main job from end to end, by the commands that people type, on each engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.flights.expected import expected
from tests.conftest import missing
from tests.end_to_end.conftest import Stack

FLIGHTS = 3_000
GUESTS = ("ZX", "ZY", "ZZ")  # tenants that are no carriers
FEED = (sys.executable, "-m", "examples.flights.feed", "--limit", str(FLIGHTS))


def feed_and_wait(stack: Stack) -> None:
    stack.run(*FEED)
    stack.until(lambda: sum(ended(stack).values()) >= FLIGHTS, "end of all flights")


def ended(stack: Stack) -> dict[str, int]:
    return {state: count for state, count in stack.counts().items() if state in ("succeeded", "dead")}


def guests(stack: Stack) -> Counter[str]:
    """The states of jobs that other tests of this stack put in, whichever ran before."""
    return Counter(job["state"] for tenant in GUESTS for job in stack.pages(tenant=tenant))


def flight_value(stack: Stack) -> str:
    """The value of a flight that succeeded, as it stands in the log."""
    job = next(stack.pages(state="succeeded"))
    record = stack.get(f"/v1/topics/{job['topic']}/records", partition=job["partition"], offset=job["offset"], limit=1)
    return json.dumps(record["items"][0]["value"])


def test_the_view_counts_what_a_plain_pass_over_the_files_counts(stack: Stack) -> None:
    feed_and_wait(stack)
    plain = expected(FLIGHTS)
    assert Counter(stack.counts()) - guests(stack) == Counter(plain.by_state)
    by_carrier: dict[str, Counter[str]] = {}
    for job in stack.pages(queue="flights"):
        outcome = "succeeded" if job["error"] is None else job["error"]["type"]
        by_carrier.setdefault(job["tenant"], Counter())[outcome] += 1
    assert {carrier: found for carrier, found in by_carrier.items() if carrier not in GUESTS} == plain.by_carrier


def test_every_dead_flight_is_a_dead_letter_with_its_reason(stack: Stack) -> None:
    feed_and_wait(stack)
    plain = expected(FLIGHTS)
    listed = stack.logqueue("dlq", "ls", "flights", "--limit", "1000")
    reasons = Counter(letter["error"]["type"] for letter in listed["items"] if letter["replay"] == 0)
    assert reasons == Counter({name: count for name, count in plain.by_outcome.items() if name != "succeeded"})


def test_a_second_run_continues_and_repeats_nothing(stack: Stack) -> None:
    feed_and_wait(stack)
    before = stack.counts()
    newest = next(stack.pages(queue="flights"))
    assert stack.stop() == 0
    stack.start()
    stack.run(*FEED)
    stack.until(lambda: stack.counts() == before, "same counts after the second run")
    assert stack.get(f"/v1/jobs/{newest['id']}") == newest


def test_a_record_of_kcat_is_a_job(stack: Stack) -> None:
    kcat = shutil.which("kcat")
    if kcat is None:
        missing("kcat is not installed")
    feed_and_wait(stack)
    value = flight_value(stack)
    topic = f"{stack.prefix}jobs.flights"
    where = ["-b", stack.facts["bootstrap"], "-P", "-t", topic]
    stack.run(kcat or "", *where, "-k", "ZZ", "-H", "ce_id=from-kcat", "-H", "ce_type=flight.assess", text=value)
    stack.until(lambda: any(stack.pages(tenant="ZZ", state="succeeded")), "the job of kcat")
    assert stack.get("/v1/jobs/from-kcat")["state"] == "succeeded"
    # Without any header: the queue has a default type, and the position is the id.
    stack.run(kcat or "", *where, "-k", "ZY", text=value)
    stack.until(lambda: any(stack.pages(tenant="ZY", state="succeeded")), "the job without headers")
    job = next(stack.pages(tenant="ZY"))
    assert job["id"] == f"{job['topic']}-{job['partition']}-{job['offset']}"
    assert job["type"] == "flight.assess"


def test_a_record_of_kafkajs_is_a_job(stack: Stack, node_clients: Path) -> None:
    feed_and_wait(stack)
    script = """
      import { createRequire } from 'node:module';
      const [ , bootstrap, topic, modules] = process.argv;
      const { Kafka, logLevel } = createRequire(modules + '/')('kafkajs');
      const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING });
      let value = ''; for await (const chunk of process.stdin) value += chunk;
      const producer = kafka.producer(); await producer.connect();
      const headers = { ce_type: 'flight.assess', ce_id: 'from-kafkajs' };
      await producer.send({ topic, messages: [{ key: 'ZX', value, headers }] });
      await producer.disconnect();
    """
    arguments = [stack.facts["bootstrap"], f"{stack.prefix}jobs.flights", str(node_clients / "node_modules")]
    stack.run("node", "--input-type=module", "-e", script, *arguments, text=flight_value(stack))
    stack.until(lambda: any(stack.pages(tenant="ZX", state="succeeded")), "the job of kafkajs")
    assert stack.get("/v1/jobs/from-kafkajs")["attempt"] == 1


def test_a_replay_runs_history_in_a_shadow_group_and_changes_nothing_live(stack: Stack) -> None:
    feed_and_wait(stack)
    stack.until(lambda: stack.get("/v1/groups/flights")["lag"] == 0, "commits behind all ends")
    before, group_before = stack.counts(), stack.get("/v1/groups/flights")
    job = next(stack.pages(state="succeeded"))
    topic = f"{stack.prefix}jobs.flights"
    done = stack.run(
        sys.executable, "-m", "logqueue_api.cli.main",
        "replay", topic, "--from", "0", "--group", "audit", "examples.flights.app:app", "--json", check=False,
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert done.returncode in (0, 1), done.stderr  # 1: the replay itself went through, some flights failed again
    assert summary["records"] >= FLIGHTS
    shadow = lambda: sum(1 for _ in stack.pages(group="audit"))  # noqa: E731
    stack.until(lambda: shadow() == summary["records"], "shadow statuses")
    assert stack.counts() == before
    assert stack.get(f"/v1/jobs/{job['id']}") == job
    assert stack.get(f"/v1/jobs/{job['id']}", group="audit")["state"] == "succeeded"
    group_after = stack.get("/v1/groups/flights")
    assert group_after["partitions"] == group_before["partitions"]
    stack.until(lambda: stack.get("/v1/groups/audit")["lag"] == 0, "the replay's commits")


def test_a_dead_letter_can_be_sent_round_again_for_its_group_alone(stack: Stack) -> None:
    feed_and_wait(stack)
    letter = stack.logqueue("dlq", "ls", "flights", "--limit", "1")["items"][0]
    job_id = letter["id"]
    stack.logqueue("dlq", "replay", "flights", job_id)
    stack.until(lambda: stack.get(f"/v1/jobs/{job_id}")["replay"] == 1, "the replayed job")
    stack.until(lambda: stack.get(f"/v1/jobs/{job_id}")["state"] == "dead", "the same honest failure")


BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000", "--dump-dom",
)  # fmt: skip


PAGES = [
    ("/", "flights"),
    ("/#/jobs", "succeeded"),
    ("/#/dead", "given up by"),
    ("/#/groups", "behind"),
    ("/#/constructor", "No such page"),
    ("/docs", "/v1/jobs"),
]


@pytest.mark.parametrize(("page", "words"), PAGES)
def test_the_pages_show_their_contents_in_a_browser(stack: Stack, tmp_path: Path, page: str, words: str) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        missing("no Chromium is installed")
    feed_and_wait(stack)
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    shown = stack.run(browser or "", *BROWSER, profile, stack.facts["api"] + page).stdout
    assert words in re.sub(r"<(script|style)\b.*?</\1>", "", shown, flags=re.DOTALL)


def test_the_lines_on_the_screen_are_plain_text_without_a_terminal(stack: Stack) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "logqueue_api.cli.main", "up", "--help"], capture_output=True, text=True, check=True
    )
    assert "\x1b[" not in shown.stdout
    assert "\x1b[" not in (stack.folder.parent / "up.log").read_text()
