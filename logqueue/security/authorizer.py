"""Decides whether a principal may do something, by the rules of Kafka's StandardAuthorizer (KIP-801). Pure.

A DENY that applies beats every ALLOW. READ, WRITE, DELETE and ALTER allow DESCRIBE too; ALTER_CONFIGS allows
DESCRIBE_CONFIGS; a DENY implies nothing. Without any ACL on a resource `allow.everyone.if.no.acl.found` decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from logqueue.security.acl import (
    OPERATIONS,
    WILDCARD,
    WILDCARD_PRINCIPAL,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)

REMEMBERED_DECISIONS = 50_000  # answers kept so that a hot request costs one look-up; all forgotten with any change
REMEMBERED_NAME_CHARS = 255  # longer names, which no topic has, are judged each time: they would fill the memory

_IMPLIED_BY = {
    Operation.DESCRIBE: frozenset(
        (Operation.DESCRIBE, Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER)
    ),
    Operation.DESCRIBE_CONFIGS: frozenset((Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS)),
}


def parse_super_users(text: str) -> frozenset[str]:
    """`super.users`: principals with a semicolon between them, since names of certificates hold commas."""
    return frozenset(part.strip() for part in text.split(";") if part.strip())


class Authorizer:
    """The ACLs of a broker, indexed by what they protect."""

    def __init__(
        self, acls: Iterable[Acl] = (), *, super_users: Iterable[str] = (), allow_if_no_acl: bool = False
    ) -> None:
        self.super_users = frozenset(super_users)
        self.allow_if_no_acl = allow_if_no_acl
        self._acls: set[Acl] = set()
        self._literal: dict[tuple[ResourceType, str], list[Acl]] = defaultdict(list)
        self._prefixed: dict[tuple[ResourceType, str], list[Acl]] = defaultdict(list)
        self._prefix_lengths: dict[ResourceType, set[int]] = defaultdict(set)
        self._decided: dict[tuple[str, str, Operation, ResourceType, str], bool] = {}
        self.replace(acls)

    @property
    def acls(self) -> frozenset[Acl]:
        return frozenset(self._acls)

    def find(self, wanted: AclFilter) -> list[Acl]:
        """The ACLs that a filter matches, in a stable order."""
        return sorted(acl for acl in self._acls if wanted.matches(acl))

    def replace(self, acls: Iterable[Acl]) -> None:
        """Make these the only ACLs."""
        self._acls = set(acls)
        self._literal.clear()
        self._prefixed.clear()
        self._prefix_lengths.clear()
        self._decided.clear()
        for acl in self._acls:
            if acl.pattern is PatternType.PREFIXED:
                self._prefixed[acl.resource_type, acl.name].append(acl)
                self._prefix_lengths[acl.resource_type].add(len(acl.name))
            else:
                self._literal[acl.resource_type, acl.name].append(acl)

    def allows(self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str) -> bool:
        """Whether `principal` (such as `User:alice`) may do this from `host` to the resource."""
        question = (principal, host, operation, kind, name)
        decided = self._decided.get(question)
        if decided is None:
            decided = self._decide(*question)
            if len(name) <= REMEMBERED_NAME_CHARS:
                if len(self._decided) >= REMEMBERED_DECISIONS:
                    self._decided.clear()
                self._decided[question] = decided
        return decided

    def allows_any(self, principal: str, host: str, operation: Operation, kind: ResourceType) -> bool:
        """Whether there is any resource of this kind that the principal may do this to (KIP-679)."""
        if self.allows(principal, host, operation, kind, "hardcode"):
            return True
        denied_names: set[str] = set()
        denied_prefixes: set[str] = set()
        allowed: list[Acl] = []
        for acl in self._acls:
            if acl.resource_type is not kind or not _concerns(acl, principal, host):
                continue
            if acl.operation not in (operation, Operation.ALL):
                continue
            if acl.permission is Permission.ALLOW:
                allowed.append(acl)
            elif acl.pattern is PatternType.PREFIXED:
                denied_prefixes.add(acl.name)
            else:
                denied_names.add(acl.name)
        if WILDCARD in denied_names:
            return False
        return any(_is_left(acl, denied_names, denied_prefixes) for acl in allowed)

    def operations(self, principal: str, host: str, kind: ResourceType, name: str) -> int:
        """What the principal may do to a resource, as a bit set of operation codes (KIP-430)."""
        return sum(1 << op for op in OPERATIONS[kind] if self.allows(principal, host, op, kind, name))

    def _decide(self, principal: str, host: str, operation: Operation, kind: ResourceType, name: str) -> bool:
        if principal in self.super_users:
            return True
        has_acls = is_allowed = False
        for acl in self._on(kind, name):
            has_acls = True
            if not _concerns(acl, principal, host) or not _covers(acl, operation):
                continue
            if acl.permission is Permission.DENY:
                return False
            is_allowed = True
        return is_allowed or (not has_acls and self.allow_if_no_acl)

    def _on(self, kind: ResourceType, name: str) -> Iterator[Acl]:
        yield from self._literal.get((kind, name), ())
        if name != WILDCARD:
            yield from self._literal.get((kind, WILDCARD), ())
        for length in self._prefix_lengths.get(kind, ()):
            if length <= len(name):
                yield from self._prefixed.get((kind, name[:length]), ())


def _concerns(acl: Acl, principal: str, host: str) -> bool:
    return acl.principal in (principal, WILDCARD_PRINCIPAL) and acl.host in (host, WILDCARD)


def _covers(acl: Acl, operation: Operation) -> bool:
    if acl.operation in (Operation.ALL, operation):
        return True
    return acl.permission is Permission.ALLOW and acl.operation in _IMPLIED_BY.get(operation, ())


def _is_left(acl: Acl, denied_names: set[str], denied_prefixes: set[str]) -> bool:
    if acl.pattern is PatternType.LITERAL:
        if acl.name == WILDCARD:
            return True
        if acl.name in denied_names:
            return False
    return not any(acl.name.startswith(prefix) for prefix in denied_prefixes)
