"""A consumer group (KIP-848) under any sequence of requests, lost answers, failures and crashes, and what must hold.

Four clients of the consumer protocol (two of them static) and two classic ones share a group that migrates back and
forth. Whoever is a member works on what it was told; a client that was evicted does not know it, and does not count.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logqueue.errors import ErrorCode
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolAssignment, TopicPartition
from tests.group.consumers import ConsumerClient, assignment_of, describe
from tests.group.shell import Shell, subscription

SLOTS = st.integers(0, 3)
CLASSICS = st.integers(0, 1)
INSTANCES = (None, None, "one", "two")
SUBSCRIPTIONS = st.sampled_from([("t",), ("t", "u"), ("u",), ("t", "v")])
ROUNDS = 40  # of heartbeats, one second apart, until a group left alone must be at rest

Partition = tuple[str, int]


class EagerClient:
    """A classic consumer with eager rebalancing: it gives everything up before it joins."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.topics: tuple[str, ...] = ("t",)
        self.member_id = ""
        self.generation = -1
        self.owns: set[Partition] = set()
        self.joining: int | None = None
        self.syncing: int | None = None
        self.is_running = False

    def stop(self) -> None:
        self.member_id, self.generation, self.owns = "", -1, set()
        self.joining = self.syncing = None
        self.is_running = False

    def join(self) -> None:
        self.owns = set()
        self.is_running = True
        self.joining = self.shell.join(
            self.member_id, version=5, protocols={"range": subscription(*self.topics)}, session_ms=30_000
        )

    def follow(self) -> None:
        """Read answers that have come, and take the next step."""
        if self.joining is not None:
            self._read_join()
        elif self.syncing is not None:
            self._read_sync()
        elif self.is_running:
            token = self.shell.heartbeat(self.member_id, self.generation)
            if not self.shell.is_parked(token):
                self._react(self.shell.error_of(token))

    def _react(self, error: ErrorCode) -> None:
        if error is ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id, self.generation = "", -1
        if error is not ErrorCode.NONE:
            self.join()

    def _read_join(self) -> None:
        assert self.joining is not None
        if self.shell.is_parked(self.joining):
            return
        answer = self.shell.replies[self.joining]
        self.joining = None
        error = ErrorCode(answer.error_code)
        if error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            self.join()
        elif error is ErrorCode.NONE:
            self.member_id, self.generation = answer.member_id, answer.generation_id
            members = [member.member_id for member in answer.members]
            self.syncing = self.shell.sync(self.member_id, self.generation, _shares(members, self.topics, self.shell))
            self.follow()
        else:
            if error is ErrorCode.UNKNOWN_MEMBER_ID:
                self.member_id, self.generation = "", -1
            self.is_running = False  # the next `follow` of the test begins anew

    def _read_sync(self) -> None:
        assert self.syncing is not None
        if self.shell.is_parked(self.syncing):
            return
        answer = self.shell.replies[self.syncing]
        self.syncing = None
        if answer.error_code == ErrorCode.NONE:
            held = assignment_of(answer.assignment)
            self.owns = {(topic, number) for topic, numbers in held.items() for number in numbers}
        else:
            self._react(ErrorCode(answer.error_code))


def _shares(members: list[str], topics: tuple[str, ...], shell: Shell) -> dict[str, bytes]:
    """What a leader decides: partitions in turn."""
    shares: dict[str, dict[str, list[int]]] = {member_id: {} for member_id in members}
    for topic in topics if members else ():
        for number in range(shell.topics.partition_count(topic)):
            shares[members[number % len(members)]].setdefault(topic, []).append(number)
    return {
        member_id: codec.write_versioned(
            ConsumerProtocolAssignment(
                assigned_partitions=[TopicPartition(topic=t, partitions=p) for t, p in share.items()]
            ),
            0,
        )
        for member_id, share in shares.items()
    }


class ConsumerGroupMachine(RuleBasedStateMachine):
    """Everything that may happen to one group."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = Shell(properties={"group.initial.rebalance.delay.ms": "0"})
        self.lives = 0
        self.clients = [self.new_client(slot) for slot in range(4)]
        self.classics = [EagerClient(self.shell) for _ in range(2)]
        self.outstanding: dict[int, int] = {}  # slot -> token of an answer that has not come yet

    def new_client(self, slot: int) -> ConsumerClient:
        """A client's next life, under an id of its own."""
        self.lives += 1
        return ConsumerClient(self.shell, f"c{slot}-{self.lives}", "t", instance_id=INSTANCES[slot])

    def send(self, slot: int, *, answer_is_lost: bool = False) -> None:
        """One heartbeat as the client's state wants it."""
        client = self.clients[slot]
        if slot in self.outstanding:
            return
        if client.epoch <= 0:
            client.owns, client.to_revoke = {}, {}
            token = client.send(
                member_epoch=0,
                topic_partitions=[],
                rebalance_timeout_ms=20_000,
                subscribed_topic_names=client.topics,
                subscribed_topic_regex=client.fields.get("regex", ""),
            )
        else:
            token = client.send(
                topic_partitions=client.owned(),
                rebalance_timeout_ms=20_000,
                subscribed_topic_names=client.topics,
                subscribed_topic_regex=client.fields.get("regex", ""),
            )
        if not answer_is_lost:
            self.outstanding[slot] = token
            self.read()

    def read(self) -> None:
        """Clients read the answers that have come."""
        for slot, token in list(self.outstanding.items()):
            if not self.shell.is_parked(token):
                del self.outstanding[slot]
                self.clients[slot].take(self.shell.replies[token])

    # What clients do

    @rule(slot=SLOTS, answer_is_lost=st.booleans())
    def beat(self, slot: int, answer_is_lost: bool) -> None:
        self.send(slot, answer_is_lost=answer_is_lost)

    @rule(slots=st.lists(SLOTS, min_size=1, max_size=8))
    def beat_in_turn(self, slots: list[int]) -> None:
        for slot in slots:
            self.send(slot)

    @rule(slot=SLOTS, topics=SUBSCRIPTIONS, regex=st.sampled_from(["", "", "t|v", "u.*"]))
    def subscribe(self, slot: int, topics: tuple[str, ...], regex: str) -> None:
        self.clients[slot].topics = list(topics) if not regex else []
        self.clients[slot].fields["regex"] = regex
        self.send(slot)

    @rule(slot=SLOTS, is_slow=st.booleans())
    def give_up_slowly(self, slot: int, is_slow: bool) -> None:
        self.clients[slot].revokes_at_once = not is_slow
        if not is_slow:
            self.clients[slot].revoke()

    @rule(slot=SLOTS, comes_back=st.booleans())
    def leave(self, slot: int, comes_back: bool) -> None:
        if slot not in self.outstanding:
            epoch = -2 if comes_back and INSTANCES[slot] is not None else -1
            self.clients[slot].send(member_epoch=epoch)
            self.clients[slot] = self.new_client(slot)

    @rule(slot=SLOTS)
    def kill(self, slot: int) -> None:
        self.outstanding.pop(slot, None)
        self.clients[slot] = self.new_client(slot)

    @rule(slot=CLASSICS, steps=st.integers(1, 4), topics=SUBSCRIPTIONS)
    def follow_classic(self, slot: int, steps: int, topics: tuple[str, ...]) -> None:
        classic = self.classics[slot]
        if not classic.is_running:
            classic.topics = topics
            classic.join()
        for _ in range(steps):
            classic.follow()

    @rule(slot=CLASSICS, politely=st.booleans())
    def stop_classic(self, slot: int, politely: bool) -> None:
        if politely and self.classics[slot].member_id:
            self.shell.leave((self.classics[slot].member_id, None))
        self.classics[slot].stop()

    # What the world does

    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.shell.advance(seconds)

    @rule()
    def change_topics(self) -> None:
        topics = self.shell.topics
        if "v" not in topics.ids:
            topics.create("v", 2)
        elif topics.counts["v"] < 5:
            topics.grow("v", topics.counts["v"] + 2)
        else:
            topics.delete("v")
            for client in self.clients:  # a topic of that name that comes later is another one
                client.owns.pop("v", None)
                client.to_revoke.pop("v", None)
            for classic in self.classics:
                classic.owns = {partition for partition in classic.owns if partition[0] != "v"}

    @precondition(lambda self: not self.shell.holds_appends and not self.shell.held)
    @rule()
    def stall_the_disk(self) -> None:
        self.shell.holds_appends = True

    @precondition(lambda self: self.shell.held)
    @rule()
    def fail_the_disk(self) -> None:
        self.shell.fail()

    @precondition(lambda self: self.shell.holds_appends)
    @rule()
    def heal_the_disk(self) -> None:
        self.shell.holds_appends = False
        self.shell.settle()

    @rule()
    def crash(self) -> None:
        """The process dies: what was not durable never was; whoever waited for an answer gets none."""
        self.shell.held.clear()
        self.shell = self.shell.restarted()
        self.outstanding.clear()
        for client in self.clients:
            client.shell = self.shell
        for classic in self.classics:
            classic.shell = self.shell
            if classic.joining is not None or classic.syncing is not None:
                classic.stop()

    @precondition(lambda self: not self.shell.held)
    @rule()
    def the_records_alone_make_the_same_group(self) -> None:
        group = describe(self.shell)
        if group.error_code == ErrorCode.NONE:  # of a classic group much is soft state
            assert describe(self.shell.restarted()) == group

    @rule()
    def left_alone_the_group_comes_to_rest_complete_and_balanced(self) -> None:
        if self.shell.holds_appends:
            self.heal_the_disk()
        for slot, client in enumerate(self.clients):
            client.revokes_at_once = True
            client.revoke()
            self.send(slot)
        for _ in range(ROUNDS):
            self.shell.advance(1.5)
            for slot in range(4):
                self.send(slot)
            for classic in self.classics:
                if classic.is_running:
                    classic.follow()
                elif classic.member_id:
                    classic.join()
            self.nobody_works_on_what_another_does()
        assert not self.outstanding
        group = describe(self.shell)
        assert group.group_state == "Stable"
        self.check_rest()

    def check_rest(self) -> None:
        shares: list[tuple[frozenset[str], set[Partition]]] = []
        for client in self.clients:
            read = {*client.topics, *self.matching(client.fields.get("regex", ""))}
            shares.append((frozenset(read), client.works_on()))
        shares += [(frozenset(c.topics), c.owns) for c in self.classics if c.is_running]
        every = [partition for _, share in shares for partition in share]
        wanted = {
            (topic, number)
            for read, _ in shares
            for topic in read
            for number in range(self.shell.topics.partition_count(topic))
        }
        assert sorted(every) == sorted(wanted)
        for read, share in shares:
            assert {topic for topic, _ in share} <= read
        if len({read for read, _ in shares}) == 1:
            sizes = [len(share) for _, share in shares]
            assert max(sizes) - min(sizes) <= 1

    def matching(self, regex: str) -> set[str]:
        return {"": set(), "t|v": {"t", "v"}, "u.*": {"u"}}[regex]

    # What must hold

    @invariant()
    def nobody_works_on_what_another_does(self) -> None:
        self.read()
        group = describe(self.shell)
        if group.error_code != ErrorCode.NONE:
            return
        epochs = {member.member_id: member.member_epoch for member in group.members}
        seen: dict[Partition, str] = {}
        working = [(c.member_id, c.epoch, c.works_on()) for c in self.clients]
        working += [(c.member_id, c.generation, c.owns) for c in self.classics]
        for member_id, epoch, partitions in working:
            if member_id in epochs and epoch > 0:
                for partition in partitions:
                    assert partition not in seen, f"{partition} belongs to {member_id} and {seen[partition]}"
                    seen[partition] = member_id

    @invariant()
    def the_epochs_follow_each_other(self) -> None:
        group = describe(self.shell)
        assert group.assignment_epoch <= group.group_epoch
        held: set[tuple[bytes, int]] = set()
        for member in group.members:
            assert member.member_epoch <= group.group_epoch
            for topic in member.assignment.topic_partitions:
                for number in topic.partitions:
                    assert (topic.topic_id, number) not in held
                    held.add((topic.topic_id, number))

    def teardown(self) -> None:
        self.left_alone_the_group_comes_to_rest_complete_and_balanced()


ConsumerGroupCase = ConsumerGroupMachine.TestCase
ConsumerGroupCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
