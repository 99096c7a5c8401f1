"""The owner of workflows against any DAG, any order of ends, repeats, lost transactions and new owners."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from logqueue_consumers.flows.graph import ORPHAN_MS, RETENTION_MS
from logqueue_schemas.job_status import State

from logqueue.jobs.flow_records import (
    ADD,
    CONFLICT,
    SPEC,
    CancelOrder,
    End,
    FlowState,
    NodeSpec,
    OnFailure,
    Submission,
    decode_submission,
    encode,
    key_of,
)
from tests.flows.flow_world import World, spec

FLOW = "f1"
ENDS = ["succeeded", "succeeded", "succeeded", "dead", "expired", "cancelled"]
SUCCEEDED = "succeeded"


@st.composite
def dags(draw: st.DrawFn) -> dict[str, NodeSpec]:
    """Nodes that come after some of those before them, with any policies; sometimes a callback."""
    count = draw(st.integers(1, 8))
    names = draw(st.permutations([f"n{number}" for number in range(count)]))
    nodes: dict[str, NodeSpec] = {}
    for place, name in enumerate(names):
        deps = draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=3)) if place else []
        nodes[name] = spec({dep: draw(st.sampled_from(list(OnFailure))) for dep in deps})
    if draw(st.booleans()):
        nodes["zz-callback"] = spec(is_callback=True)
    return nodes


class FlowLife(RuleBasedStateMachine):
    """Every node is put on the log at most once, never too early, and the workflow comes to exactly one end."""

    @initialize(nodes=dags())
    def begin(self, nodes: dict[str, NodeSpec]) -> None:
        self.world = World()
        self.nodes = dict(nodes)
        self.sent = dict(nodes)
        self.ended: dict[str, str] = {}
        self.checked = 0
        self.added = 0
        self.is_cancelled = False
        self.world.submit(FLOW, nodes)

    def running(self) -> list[str]:
        return [name for name in self.world.jobs if name not in self.ended]

    @rule(is_lost=st.booleans(), limit=st.sampled_from([1, 2, 500]))
    def act(self, is_lost: bool, limit: int) -> None:
        self.world.act(limit=limit, is_lost=is_lost)

    @rule(compacted=st.booleans())
    def another_owner(self, compacted: bool) -> None:
        """Whom compaction leaves no `submit/` of one that is not opened yet cannot tell further nodes (see DESIGN)."""
        flow = self.world.flow(FLOW)
        is_known = flow.is_opened if flow is not None else "more" not in self.world.specs(FLOW)
        self.world.replace_owner(compacted=compacted and is_known)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), state=st.sampled_from(ENDS), repeats=st.integers(1, 2))
    def a_job_ends(self, data: st.DataObject, state: str, repeats: int) -> None:
        node = data.draw(st.sampled_from(self.running()))
        self.ended[node] = state
        for _ in range(repeats):
            self.world.end(FLOW, node, state, b'"%s"' % node.encode())

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def an_old_job_ends_again(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(self.ended)))
        self.world.end(FLOW, node, self.ended[node])

    @precondition(lambda self: self.added < 3 and [name for name in self.running() if name != "zz-callback"])
    @rule(data=st.data(), state=st.sampled_from(ENDS))
    def a_running_job_adds_a_node_and_ends(self, data: st.DataObject, state: str) -> None:
        parent = data.draw(st.sampled_from([name for name in self.running() if name != "zz-callback"]))
        name = f"{data.draw(st.sampled_from('az'))}{self.added}-added"
        self.added += 1
        policy = data.draw(st.sampled_from(list(OnFailure)))
        added = spec(data.draw(st.sampled_from([{}, {parent: policy}])))
        self.nodes[name] = added
        for _ in range(2):
            self.world.append(key_of(ADD, FLOW, name), encode(added))
        self.ended[parent] = state
        self.world.end(FLOW, parent, state)

    @rule(has_more=st.booleans())
    def it_is_sent_again(self, has_more: bool) -> None:
        """The same nodes, or also a node more, which is none of it."""
        self.world.submit(FLOW, {**self.sent, "more": spec()} if has_more else self.sent)

    @precondition(lambda self: not self.is_cancelled)
    @rule()
    def cancel(self) -> None:
        self.is_cancelled = True
        self.world.cancel(FLOW)

    @invariant()
    def no_node_is_put_on_the_log_twice_or_too_early(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        assert len(set(world.jobs)) == len(world.jobs)
        assert world.ends(FLOW) <= 1
        final = {
            name: node.state for name, node in world.nodes(FLOW).items() if node.state not in ("blocked", "queued")
        }
        for name in world.jobs[self.checked :]:
            self.checked += 1
            node = self.nodes[name]
            if node.is_callback:
                assert set(self.nodes) - {name} <= set(final)
                continue
            ended = {dep: final[dep] for dep in node.after if dep in final}
            early = any(s != SUCCEEDED and node.after[d] is OnFailure.CONTINUE for d, s in ended.items())
            whole = len(ended) == len(node.after)
            assert early or whole, (name, node.after, ended)
            if not early:
                assert all(s == SUCCEEDED or node.after[d] is OnFailure.IGNORE for d, s in ended.items())

    def teardown(self) -> None:
        """When all jobs end, the workflow does, in the state that follows from its nodes."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.settle()
        while running := self.running():
            self.ended[running[0]] = SUCCEEDED
            world.end(FLOW, running[0], SUCCEEDED)
            world.settle()
        self.no_node_is_put_on_the_log_twice_or_too_early()
        flow, nodes = world.flow(FLOW), world.nodes(FLOW)
        assert flow is not None
        assert flow.is_over
        assert not world.pending()
        assert set(nodes) == set(self.nodes)
        assert {"more"} >= set(world.specs(FLOW)) - set(self.nodes)
        for name, node in nodes.items():
            if name in self.ended:
                assert node.state == self.ended[name]
                continue
            assert node.state == "cancelled"
            assert self.is_cancelled or any(
                nodes[dep].state != SUCCEEDED and policy is OnFailure.FAIL
                for dep, policy in self.nodes[name].after.items()
            )
        if not self.is_cancelled:
            assert flow.state is (FlowState.FAILED if self.has_unhandled_failure() else FlowState.SUCCEEDED)
            assert "zz-callback" not in self.nodes or "zz-callback" in world.jobs
        elif flow.state is not FlowState.CANCELLED:
            assert set(world.jobs) == set(self.ended), "it was over before the order came"

    def has_unhandled_failure(self) -> bool:
        nodes = self.world.nodes(FLOW)
        for name, node in nodes.items():
            if node.state == SUCCEEDED:
                continue
            policies = {other.after[name] for other in self.nodes.values() if name in other.after}
            if not policies or OnFailure.FAIL in policies:
                return True
        return False


FlowLife.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestFlowLife = FlowLife.TestCase


def test_results_of_the_nodes_before_are_handed_on_and_failures_named() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec(), "c": spec({"a": OnFailure.FAIL, "b": OnFailure.IGNORE})})
    world.settle()
    assert sorted(world.jobs) == ["a", "b"]
    world.end(FLOW, "a", "succeeded", b'{"sum":3}')
    world.end(FLOW, "b", "dead")
    world.settle()
    assert world.results("c") == {"results": {"a": {"sum": 3}}, "failed": {"b": "dead"}, "omitted": []}


def test_a_result_that_is_too_large_is_omitted_by_name() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL})})
    world.settle()
    world.end(FLOW, "a", "succeeded", b'"' + b"x" * 40_000 + b'"')
    world.settle()
    assert world.results("b") == {"results": {}, "failed": {}, "omitted": ["a"]}


def test_all_results_together_stay_within_what_a_record_takes() -> None:
    world = World()
    names = [f"n{number:03}" for number in range(30)]
    world.submit(FLOW, {**{name: spec() for name in names}, "z": spec(dict.fromkeys(names, OnFailure.FAIL))})
    world.settle()
    for name in names:
        world.end(FLOW, name, "succeeded", b'"' + b"x" * 30_000 + b'"')
    world.settle()
    results = world.results("z")
    assert len(world.headers["z"]["job-workflow-results"]) < 300_000
    assert len(results["results"]) + len(results["omitted"]) == 30  # type: ignore[arg-type]
    assert results["omitted"]


def test_results_leave_room_for_large_arguments() -> None:
    world = World()
    before = {f"n{number}": OnFailure.FAIL for number in range(9)}
    large = NodeSpec(type="work", queue="q", value=b"x" * 740_000, headers=[], after=before)
    world.submit(FLOW, {**{name: spec() for name in before}, "z": large})
    world.settle()
    for number in range(9):
        world.end(FLOW, f"n{number}", "succeeded", b'"' + b"x" * 30_000 + b'"')
    world.settle()
    assert len(large.value) + len(world.headers["z"]["job-workflow-results"]) < 1_000_000
    assert world.results("z")["omitted"]


def test_blocked_jobs_say_what_they_wait_for_and_are_queued_after() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL})})
    world.settle()
    (blocked,) = world.statuses
    assert (blocked.id, blocked.state) == (f"{FLOW}.b", State.BLOCKED)
    assert b'"blocked_on":["a"]' in (blocked.details or b"")
    world.end(FLOW, "a", "succeeded")
    world.settle()
    assert world.statuses[-1].state is State.QUEUED
    assert world.statuses[-1].version > blocked.version


def test_a_workflow_of_which_nodes_are_missing_fails_and_runs_nothing() -> None:
    world = World()
    world.submit(FLOW, {"a": spec()}, claims=2)
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, flow.reason, world.jobs) == (FlowState.FAILED, "1 of 2 nodes arrived", [])


def test_nodes_without_a_workflow_are_dropped_after_an_hour() -> None:
    world = World()
    world.append(key_of(SPEC, "lost", "a"), encode(spec()))
    world.settle()
    assert world.log[-1].value is not None
    world.now_ms += ORPHAN_MS
    world.settle()
    assert world.log[-1] == world.log[-1]._replace(key=key_of(SPEC, "lost", "a"), value=None)
    world.catch_up()
    assert world.index.count() == 0


def test_a_workflow_is_forgotten_after_its_retention_and_leaves_nothing() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL})})
    for name in ("a", "b"):
        world.settle()
        world.end(FLOW, name, "succeeded")
    world.settle()
    world.now_ms += RETENTION_MS
    world.settle()
    world.catch_up()
    last = {record.key: record.value for record in world.log}
    assert not any(value is not None for value in last.values())
    assert world.index.count() == 0


def test_cancelling_ends_what_waits_and_tells_what_is_on_the_log() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL}), "zz-callback": spec(is_callback=True)})
    world.settle()
    world.cancel(FLOW)
    world.settle()
    assert world.told == [f"{FLOW}.a"]
    assert world.nodes(FLOW)["b"].state == "cancelled"
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, flow.by) == (FlowState.CANCELLING, "me")
    world.end(FLOW, "a", "cancelled")
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert flow.state is FlowState.CANCELLED
    assert world.jobs == ["a"]


def test_a_callback_is_given_the_counts() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec(), "done": spec(is_callback=True)})
    world.settle()
    world.end(FLOW, "a", "succeeded")
    world.end(FLOW, "b", "dead")
    world.settle()
    assert world.results("done") == {"counts": {"total": 2, "succeeded": 1, "failed": 1, "cancelled": 0}}
    world.end(FLOW, "done", "succeeded")
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert flow.state is FlowState.FAILED


def test_large_nodes_are_put_to_work_in_several_transactions() -> None:
    world = World()
    large = NodeSpec(type="work", queue="q", value=b"x" * 500_000, headers=[])
    world.submit(FLOW, {f"n{number:02}": large for number in range(40)})
    assert world.act()
    while len(world.jobs) < 40:
        before = len(world.jobs)
        assert world.act(limit=1)
        assert len(world.jobs) - before <= 30


def test_thousands_of_nodes_are_put_on_the_log_in_one_transaction() -> None:
    world = World()
    world.submit(FLOW, {f"n{number:05}": spec() for number in range(5_000)} | {"done": spec(is_callback=True)})
    assert world.act()
    assert len(world.jobs) == 5_000


def test_a_workflow_sent_again_with_a_node_more_ends_without_it() -> None:
    world = World()
    world.submit(FLOW, {"a": spec()})
    world.settle()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL}), "done": spec(is_callback=True)})
    world.settle()
    assert set(world.specs(FLOW)) == {"a"}
    world.end(FLOW, "a", "succeeded")
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, flow.counts.total, world.jobs) == (FlowState.SUCCEEDED, 1, ["a"])


def test_a_node_that_waits_keeps_its_arguments_and_its_place_when_its_workflow_is_sent_again() -> None:
    world = World()
    first = {"a": spec(), "b": spec({"a": OnFailure.FAIL}, value=b"first")}
    world.submit(FLOW, first)
    world.settle()
    world.submit(FLOW, {"a": spec(value=b"again"), "b": spec(value=b"again")})
    world.settle()
    assert world.jobs == ["a"]
    assert {name: node.value for name, node in world.specs(FLOW).items()} == {"a": b"{}", "b": b"first"}
    world.replace_owner(compacted=True)
    world.end(FLOW, "a", "succeeded")
    world.settle()
    assert world.values == {"a": b"{}", "b": b"first"}


def test_the_first_node_counts_for_a_new_owner_too_that_finds_the_later_one_before_it() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL}, value=b"first")})
    world.settle()
    sent = len(world.log)
    world.submit(FLOW, {"b": spec(value=b"again")})
    world.settle()
    first = [record for record in world.log[:sent] if record.key != key_of(SPEC, FLOW, "b")]
    world.log = first + world.log[sent:]  # compaction has not come as far as what was sent again
    world.replace_owner(compacted=False)
    world.end(FLOW, "a", "succeeded")
    world.settle()
    assert world.values["b"] == b"first"


def test_a_new_owner_that_finds_the_nodes_behind_their_states_releases_none_too_early() -> None:
    world = World()
    nodes = {"a": spec(), "b": spec({"a": OnFailure.FAIL}), "done": spec(is_callback=True)}
    world.submit(FLOW, nodes)
    world.settle()
    world.submit(FLOW, nodes)
    world.settle()
    world.replace_owner(compacted=True)
    world.settle()
    assert world.jobs == ["a"]
    for name in ("a", "b"):
        world.end(FLOW, name, "succeeded")
        world.settle()
    assert world.results("done") == {"counts": {"total": 2, "succeeded": 2, "failed": 0, "cancelled": 0}}


def test_a_failure_that_an_edge_makes_up_for_does_so_for_a_new_owner_as_well() -> None:
    world = World()
    nodes = {"a": spec(), "b": spec({"a": OnFailure.IGNORE})}
    world.submit(FLOW, nodes)
    world.settle()
    world.end(FLOW, "a", "dead")
    world.settle()
    world.submit(FLOW, nodes)
    world.settle()
    world.replace_owner(compacted=True)
    world.settle()
    world.end(FLOW, "b", "succeeded")
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, flow.counts.succeeded, flow.counts.failed) == (FlowState.SUCCEEDED, 1, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"cancel/f/x", CancelOrder(by="x", at=1)),
        (b"cancel/\xff", CancelOrder(by="x", at=1)),
        (b"submit", Submission(name="n", tenant="t", app="a", group="g", created_ms=1, nodes=1)),
        (b"event/f", End(state="dead", at_ms=1)),
        (b"event/f/", End(state="dead", at_ms=1)),
        (b"add/f", spec()),
        (b"spec/f/a/b", spec()),
        (b"conflict/f", Submission(name="n", tenant="t", app="a", group="g", created_ms=1, nodes=1)),
        (b"conflict/f/\xff", Submission(name="n", tenant="t", app="a", group="g", created_ms=1, nodes=1)),
        (b"flow", Submission(name="n", tenant="t", app="a", group="g", created_ms=1, nodes=1)),
    ],
)
def test_a_record_whose_key_is_none_of_ours_is_left_alone(key: bytes, value: Any) -> None:
    world = World()
    world.append(key, encode(value))
    world.catch_up()
    assert world.machine.next_due() is None
    assert world.index.count() == 0


def test_a_node_that_is_added_behind_a_callback_which_waits_does_not_wait_for_it() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "done": spec(is_callback=True)})
    world.settle()
    world.append(key_of(ADD, FLOW, "x"), encode(spec({"done": OnFailure.FAIL})))
    world.end(FLOW, "a", "succeeded")
    world.settle()
    assert world.jobs == ["a", "x"]
    world.end(FLOW, "x", "succeeded")
    world.settle()
    world.append(key_of(ADD, FLOW, "y"), encode(spec({"done": OnFailure.FAIL})))  # by the callback, which runs
    world.settle()
    assert world.jobs == ["a", "x", "done"]
    for name in ("done", "y"):
        world.end(FLOW, name, "succeeded")
        world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, world.jobs) == (FlowState.SUCCEEDED, ["a", "x", "done", "y"])


def test_a_node_that_was_sent_before_its_workflow_began_waits_for_those_that_were_sent_last() -> None:
    world = World()
    world.append(key_of(SPEC, FLOW, "b"), encode(spec({"lost": OnFailure.FAIL})))  # a sending that was cut short
    world.catch_up()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL})})
    world.settle()
    world.end(FLOW, "a", "succeeded")
    world.settle()
    assert world.jobs == ["a", "b"]


def test_a_workflow_that_is_sent_again_before_it_has_begun_runs_as_it_was_sent_first() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec({"a": OnFailure.FAIL}, value=b"first")})
    other = {"b": spec(value=b"again"), "c": spec(), "done": spec(is_callback=True)}
    world.submit(FLOW, other)
    world.settle()
    assert world.jobs == ["a"]
    assert {name: node.value for name, node in world.specs(FLOW).items()} == {"a": b"{}", "b": b"first"}
    world.replace_owner(compacted=True)
    for name in ("a", "b"):
        world.end(FLOW, name, "succeeded")
        world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, flow.counts.total, world.values) == (FlowState.SUCCEEDED, 2, {"a": b"{}", "b": b"first"})


def test_nodes_of_a_sending_that_is_not_whole_yet_do_not_fail_the_one_before_it() -> None:
    world = World()
    world.submit(FLOW, {"a": spec()})
    world.append(key_of(SPEC, FLOW, "b"), encode(spec()))
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.state, world.jobs, set(world.specs(FLOW))) == (FlowState.RUNNING, ["a"], {"a"})


def test_a_node_that_is_sent_while_a_workflow_is_put_to_work_is_none_of_it() -> None:
    world = World()
    world.submit(FLOW, {"a": spec(), "b": spec()})
    world.act(limit=1)
    assert world.flow(FLOW) is not None
    assert not world.jobs, "it has begun, and none of its nodes was put to work"
    world.append(key_of(SPEC, FLOW, "c"), encode(spec()))
    world.settle()
    assert (world.jobs, set(world.specs(FLOW))) == (["a", "b"], {"a", "b"})


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_id_that_is_another_tenants_is_a_conflict_which_leaves_the_first_workflow_alone(has_begun: bool) -> None:
    world = World()
    world.submit(FLOW, {"a": spec(value=b"acme")})
    if has_begun:
        world.settle()
    for _ in range(2):
        world.submit(FLOW, {"a": spec(value=b"globex"), "b": spec()}, tenant="globex")
    world.cancel(FLOW, tenant="globex")
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert (flow.tenant, flow.state, world.values) == ("acme", FlowState.RUNNING, {"a": b"acme"})
    assert set(world.specs(FLOW)) == {"a"}
    conflict = key_of(CONFLICT, FLOW, "globex")
    (told,) = [record.value for record in world.log if record.key == conflict]
    assert told is not None
    assert decode_submission(told).tenant == "globex"
    world.replace_owner(compacted=True)
    world.cancel(FLOW, tenant="acme")
    world.end(FLOW, "a", "cancelled")
    world.settle()
    flow = world.flow(FLOW)
    assert flow is not None
    assert flow.state is FlowState.CANCELLED
    world.now_ms += RETENTION_MS
    world.settle()
    world.catch_up()
    last = {record.key: record.value for record in world.log}
    assert not any(value is not None for value in last.values())
    assert world.index.count() == 0
