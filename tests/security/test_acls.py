"""ACL decisions against a model that is naive on purpose, and filters over ACLs."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.security.acl import (
    Acl,
    AclFilter,
    InvalidAcl,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from logqueue.security.authorizer import Authorizer, parse_super_users

TOPIC = ResourceType.TOPIC
REAL_OPERATIONS = [operation for operation in Operation if operation not in (Operation.UNKNOWN, Operation.ANY)]
NAMES = st.sampled_from(["a", "ab", "abc", "abd", "b", "*", "a*"])
USERS = st.sampled_from(["User:x", "User:y", "User:*"])
HOSTS = st.sampled_from(["*", "10.0.0.1", "10.0.0.2"])
ACLS = st.builds(
    Acl,
    resource_type=st.sampled_from([ResourceType.TOPIC, ResourceType.GROUP]),
    name=NAMES,
    pattern=st.sampled_from([PatternType.LITERAL, PatternType.PREFIXED]),
    principal=USERS,
    host=HOSTS,
    operation=st.sampled_from(REAL_OPERATIONS),
    permission=st.sampled_from([Permission.ALLOW, Permission.DENY]),
)


def naive(acls: list[Acl], user: str, host: str, operation: Operation, name: str, *, default: bool) -> bool:
    """The rules of the documentation, one after the other, over all ACLs."""
    on_it = [
        acl
        for acl in acls
        if acl.resource_type is TOPIC
        and (
            (acl.pattern is PatternType.LITERAL and acl.name in (name, "*"))
            or (acl.pattern is PatternType.PREFIXED and name.startswith(acl.name))
        )
    ]
    if not on_it:
        return default
    implies = {
        Operation.DESCRIBE: {Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER},
        Operation.DESCRIBE_CONFIGS: {Operation.ALTER_CONFIGS},
    }.get(operation, set())
    mine = [acl for acl in on_it if acl.principal in (user, "User:*") and acl.host in (host, "*")]
    if any(a.permission is Permission.DENY and a.operation in (operation, Operation.ALL) for a in mine):
        return False
    return any(
        a.permission is Permission.ALLOW and (a.operation in (operation, Operation.ALL) or a.operation in implies)
        for a in mine
    )


@given(
    acls=st.lists(ACLS, max_size=12),
    user=st.sampled_from(["User:x", "User:y", "User:z"]),
    host=st.sampled_from(["10.0.0.1", "10.0.0.3"]),
    operation=st.sampled_from(REAL_OPERATIONS[1:]),
    name=st.sampled_from(["a", "ab", "abc", "abcd", "b", "c"]),
    default=st.booleans(),
)
def test_decisions_are_those_of_the_naive_model(
    acls: list[Acl], user: str, host: str, operation: Operation, name: str, default: bool
) -> None:
    authorizer = Authorizer(acls, allow_if_no_acl=default)
    expected = naive(acls, user, host, operation, name, default=default)
    assert authorizer.allows(user, host, operation, TOPIC, name) is expected
    assert authorizer.allows(user, host, operation, TOPIC, name) is expected, "remembered"


@given(acls=st.lists(ACLS, max_size=10), user=st.sampled_from(["User:x", "User:z"]))
def test_who_may_write_to_some_topic_is_found_by_looking_at_many(acls: list[Acl], user: str) -> None:
    authorizer = Authorizer(acls)
    may = authorizer.allows_any(user, "10.0.0.1", Operation.WRITE, TOPIC)
    # Names that the ACLs can tell apart; "~" continues none of them.
    candidates = {acl.name + end for acl in acls if acl.name != "*" for end in ("", "~")} | {"~"}
    found = any(authorizer.allows(user, "10.0.0.1", Operation.WRITE, TOPIC, name) for name in candidates)
    if found:
        assert may
    if may and not any(acl.permission is Permission.DENY for acl in acls):
        assert found


def test_super_users_may_everything_even_what_is_denied() -> None:
    deny = Acl(resource_type=TOPIC, name="*", principal="User:*", operation=Operation.ALL, permission=Permission.DENY)
    authorizer = Authorizer([deny], super_users=parse_super_users(" User:root ; User:CN=a,O=b;"))
    for user in ("User:root", "User:CN=a,O=b"):
        assert authorizer.allows(user, "h", Operation.DELETE, TOPIC, "t")
    assert not authorizer.allows("User:CN=a", "h", Operation.DELETE, TOPIC, "t")


def test_a_change_is_not_hidden_by_remembered_decisions() -> None:
    authorizer = Authorizer()
    allow = Acl(resource_type=TOPIC, name="t", principal="User:x", operation=Operation.READ)
    assert not authorizer.allows("User:x", "h", Operation.READ, TOPIC, "t")
    authorizer.replace([allow])
    assert authorizer.allows("User:x", "h", Operation.READ, TOPIC, "t")
    assert authorizer.operations("User:x", "h", TOPIC, "t") == 1 << Operation.READ | 1 << Operation.DESCRIBE


class Name(str):
    """A name of which it can be told whether anything still holds it."""


def test_a_name_longer_than_any_topics_is_judged_and_not_kept() -> None:
    allow = Acl(
        resource_type=TOPIC, name="x", pattern=PatternType.PREFIXED, principal="User:x", operation=Operation.READ
    )
    authorizer = Authorizer([allow])
    name = Name("x" * 1_000_000)
    kept = weakref.ref(name)
    is_allowed = authorizer.allows("User:x", "h", Operation.READ, TOPIC, name)
    del name
    assert is_allowed
    assert kept() is None, "anybody may ask for such names: they would fill the memory"


@given(acls=st.lists(ACLS, max_size=10, unique=True), name=NAMES)
def test_a_match_filter_finds_what_applies_to_a_name(acls: list[Acl], name: str) -> None:
    found = Authorizer(acls).find(AclFilter(resource_type=TOPIC, name=name, pattern=PatternType.MATCH))
    assert set(found) == {
        acl
        for acl in acls
        if acl.resource_type is TOPIC
        and (name.startswith(acl.name) if acl.pattern is PatternType.PREFIXED else acl.name in (name, "*"))
    }


def test_literal_and_prefixed_filters_find_the_pattern_itself() -> None:
    literal = Acl(resource_type=TOPIC, name="ab", principal="User:x", operation=Operation.READ)
    prefixed = Acl(
        resource_type=TOPIC, name="ab", pattern=PatternType.PREFIXED, principal="User:x", operation=Operation.READ
    )
    authorizer = Authorizer([literal, prefixed])
    assert authorizer.find(AclFilter(name="ab", pattern=PatternType.LITERAL)) == [literal]
    assert authorizer.find(AclFilter(name="ab", pattern=PatternType.PREFIXED)) == [prefixed]
    assert authorizer.find(AclFilter(name="ab")) == [literal, prefixed]
    assert authorizer.find(AclFilter(name="abc", pattern=PatternType.MATCH)) == [prefixed]


@pytest.mark.parametrize(
    "change",
    [
        {"resource_type": 0},
        {"resource_type": 1},
        {"resource_type": 99},
        {"resource_type": 4, "name": "other"},
        {"name": ""},
        {"pattern": 2},
        {"operation": 1},
        {"operation": 77},
        {"permission": 1},
        {"principal": "alice"},
        {"principal": "User:"},
        {"host": ""},
    ],
)
def test_an_acl_that_means_nothing_is_refused(change: dict[str, object]) -> None:
    good: dict[str, object] = {
        "resource_type": 2, "name": "t", "pattern": 3, "principal": "User:a", "host": "*", "operation": 3,
        "permission": 3,
    }  # fmt: skip
    Acl.of(**good)  # type: ignore[arg-type]
    with pytest.raises(InvalidAcl):
        Acl.of(**(good | change))  # type: ignore[arg-type]
