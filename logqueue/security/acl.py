"""What an ACL is and what a filter over ACLs matches, in Kafka's codes (KIP-11, KIP-290). Knows no request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from logqueue.errors import ErrorCode, KafkaError

WILDCARD = "*"
WILDCARD_PRINCIPAL = "User:*"
ANONYMOUS = "User:ANONYMOUS"
CLUSTER_NAME = "kafka-cluster"
MAX_ACLS = 100_000  # of one broker: everything is kept in memory and written whole


class ResourceType(IntEnum):
    """What an ACL protects."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class PatternType(IntEnum):
    """How a resource name is meant; ANY and MATCH are for filters alone (KIP-290)."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Operation(IntEnum):
    """What is done to a resource."""

    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Permission(IntEnum):
    """What an ACL says."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


# The operations that a resource can be asked for (KIP-430 answers them as a bit set).
OPERATIONS: dict[ResourceType, tuple[Operation, ...]] = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DESCRIBE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DESCRIBE,
        Operation.DELETE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
        Operation.ALTER,
        Operation.DESCRIBE,
    ),
}


class InvalidAcl(KafkaError):
    """An ACL or a filter that means nothing."""

    code = ErrorCode.INVALID_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Acl:
    """One rule: this principal, from this host, may or may not do this to these resources."""

    resource_type: ResourceType
    name: str
    pattern: PatternType = PatternType.LITERAL
    principal: str
    host: str = WILDCARD
    operation: Operation
    permission: Permission = Permission.ALLOW

    @classmethod
    def of(
        cls,
        *,
        resource_type: int,
        name: str,
        pattern: int,
        principal: str,
        host: str,
        operation: int,
        permission: int,
    ) -> Acl:
        """An ACL from wire codes. Raises InvalidAcl."""
        kind = _known(ResourceType, resource_type, "resourceType")
        if kind is ResourceType.CLUSTER and name != CLUSTER_NAME:
            raise InvalidAcl(f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}")
        if not name:
            raise InvalidAcl("Invalid empty resource name")
        if pattern not in (PatternType.LITERAL, PatternType.PREFIXED):
            raise InvalidAcl(f"Invalid patternType {_name(PatternType, pattern)}")
        if not principal.partition(":")[0] or not principal.partition(":")[2]:
            raise InvalidAcl(f"expected a string in format principalType:principalName but got {principal}")
        if not host:
            raise InvalidAcl("Invalid empty host")
        return cls(
            resource_type=kind,
            name=name,
            pattern=PatternType(pattern),
            principal=principal,
            host=host,
            operation=_known(Operation, operation, "operation"),
            permission=_known(Permission, permission, "permissionType"),
        )


def _name(kind: type[IntEnum], code: int) -> str:
    try:
        return kind(code).name
    except ValueError:
        return "UNKNOWN"


_Code = TypeVar("_Code", bound=IntEnum)


def _known(kind: type[_Code], code: int, what: str) -> _Code:
    name = _name(kind, code)
    if name in ("UNKNOWN", "ANY"):
        raise InvalidAcl(f"Invalid {what} {name}")
    return kind(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class AclFilter:
    """Which ACLs are meant; None and ANY mean all of them."""

    resource_type: ResourceType = ResourceType.ANY
    name: str | None = None
    pattern: PatternType = PatternType.ANY
    principal: str | None = None
    host: str | None = None
    operation: Operation = Operation.ANY
    permission: Permission = Permission.ANY

    @classmethod
    def of(
        cls,
        *,
        resource_type: int,
        name: str | None,
        pattern: int,
        principal: str | None,
        host: str | None,
        operation: int,
        permission: int,
    ) -> AclFilter:
        """A filter from wire codes. Raises InvalidAcl for codes that nobody knows."""
        for kind, code, what in (
            (ResourceType, resource_type, "resourceType"),
            (PatternType, pattern, "patternType"),
            (Operation, operation, "operation"),
            (Permission, permission, "permissionType"),
        ):
            if _name(kind, code) == "UNKNOWN":
                raise InvalidAcl(f"Invalid {what} UNKNOWN in a filter")
        return cls(
            resource_type=ResourceType(resource_type),
            name=name,
            pattern=PatternType(pattern),
            principal=principal,
            host=host,
            operation=Operation(operation),
            permission=Permission(permission),
        )

    def matches(self, acl: Acl) -> bool:
        """Whether the ACL is one of those that are meant."""
        return (
            self.resource_type in (ResourceType.ANY, acl.resource_type)
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
            and self._matches_name(acl)
        )

    def _matches_name(self, acl: Acl) -> bool:
        if self.pattern not in (PatternType.ANY, PatternType.MATCH, acl.pattern):
            return False
        if self.name is None:
            return True
        if self.pattern is not PatternType.MATCH:
            return self.name == acl.name
        # KIP-290: MATCH finds every ACL that would apply to a resource of this name.
        if acl.pattern is PatternType.PREFIXED:
            return self.name.startswith(acl.name)
        return acl.name in (self.name, WILDCARD)
