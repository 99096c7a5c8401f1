"""Who may do what on the log (ACLs): add, list, remove.

logqueue acls add --principal User:alice --operation read --topic 'jobs.' --prefixed
logqueue acls add --principal User:alice --operation read --group flights
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from logqueue_api.cli.arguments import add_stack
from logqueue_api.cli.exits import ExitCode, UsageError
from logqueue_api.cli.output import Column, Output
from logqueue_api.cli.stack import find_stack

if TYPE_CHECKING:
    from logqueue_api.cli.wire import Wire

OPERATIONS = (
    "all", "read", "write", "create", "delete", "alter", "describe", "cluster-action", "describe-configs",
    "alter-configs", "idempotent-write",
)  # fmt: skip
RESOURCES = ("topic", "group", "transactional_id", "cluster")
CLUSTER = "kafka-cluster"
VERSION = 2

COLUMNS = [
    Column("principal", "PRINCIPAL"),
    Column("host", "HOST"),
    Column("permission", "PERMISSION"),
    Column("operation", "OPERATION"),
    Column("resource", "RESOURCE"),
    Column("pattern", "PATTERN"),
    Column("name", "NAME"),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="add|list|remove")
    for name, text in (
        ("add", "add ACLs"),
        ("list", "list ACLs; options narrow it down"),
        ("remove", "remove the ACLs that the options name"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--principal", metavar="User:NAME", help="who; User:* is everybody")
        verb.add_argument("--host", metavar="ADDRESS", help="from where (add: default *, from everywhere)")
        verb.add_argument(
            "--operation", action="append", choices=OPERATIONS, help="what (may be repeated; read, write, delete and "
            "alter allow describe too)"
        )  # fmt: skip
        resource = verb.add_mutually_exclusive_group()
        resource.add_argument("--topic", metavar="NAME", help="on a topic; * is all of them")
        resource.add_argument("--group", metavar="NAME", help="on a consumer group")
        resource.add_argument("--transactional-id", metavar="NAME", help="on a transactional id")
        resource.add_argument("--cluster", action="store_true", help="on the cluster")
        verb.add_argument("--prefixed", action="store_true", help="the name is the beginning of names")
        verb.add_argument("--deny", action="store_true", help="forbid instead of allow; a denial beats what is allowed")
        add_stack(verb)


def run(options: argparse.Namespace) -> int:
    from logqueue.jobs.settings import load_settings
    from logqueue_api.cli.wire import Wire

    _check(options)
    output = Output(is_json=options.json)
    with Wire(load_settings(bootstrap=find_stack(options).bootstrap)) as wire:
        {"add": _add, "list": _list, "remove": _remove}[options.verb](wire, options, output)
    return ExitCode.OK


def _check(options: argparse.Namespace) -> None:
    kind, _ = _resource(options)
    if options.principal is not None and not all(options.principal.partition(":")):
        raise UsageError(f"{options.principal!r} is not a principal", hint="for example User:alice")
    if options.host == "":
        raise UsageError("--host is empty", hint="leave it out for every address")
    if options.verb == "add" and not (options.principal and options.operation and kind):
        raise UsageError(
            "an ACL needs --principal, --operation and one of --topic, --group, --transactional-id, --cluster"
        )
    if options.verb == "remove" and not (options.principal or kind):
        raise UsageError("removing every ACL is not what you want: name a --principal or a resource")


def _resource(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """(kind, name) of the resource that the options name."""
    if options.cluster:
        return "cluster", CLUSTER
    for kind in RESOURCES[:3]:
        name = getattr(options, kind)
        if name is not None:
            return kind, name
    return None, None


def _add(wire: Wire, options: argparse.Namespace, output: Output) -> None:
    from logqueue.protocol.messages.create_acls import AclCreation, CreateAclsRequest
    from logqueue.security.acl import Operation, PatternType, Permission, ResourceType
    from logqueue_api.cli.wire import check

    kind, name = _resource(options)
    assert kind is not None
    assert name is not None
    creations = [
        AclCreation(
            resource_type=ResourceType[kind.upper()],
            resource_name=name,
            resource_pattern_type=PatternType.PREFIXED if options.prefixed else PatternType.LITERAL,
            principal=options.principal,
            host=options.host or "*",
            operation=Operation[operation.replace("-", "_").upper()],
            permission_type=Permission.DENY if options.deny else Permission.ALLOW,
        )
        for operation in options.operation
    ]
    for result in wire.call(VERSION, CreateAclsRequest(creations=creations)).results:
        check(result, "adding the ACL")
    items = [_item(acl.resource_type, name, acl.resource_pattern_type, acl) for acl in creations]
    output.items(items, COLUMNS, empty="")


def _filters(options: argparse.Namespace) -> list[dict[str, Any]]:
    from logqueue.security.acl import Operation, PatternType, Permission, ResourceType

    kind, name = _resource(options)
    pattern = PatternType.PREFIXED if options.prefixed else PatternType.ANY
    if options.verb == "remove" and name is not None and not options.prefixed:
        pattern = PatternType.LITERAL  # a prefix is removed by saying so
    operations = [Operation[word.replace("-", "_").upper()] for word in options.operation or ()]
    return [
        {
            "resource_type_filter": ResourceType[kind.upper()] if kind else ResourceType.ANY,
            "resource_name_filter": name,
            "pattern_type_filter": pattern,
            "principal_filter": options.principal,
            "host_filter": options.host,
            "operation": operation,
            "permission_type": Permission.DENY if options.deny else Permission.ANY,
        }
        for operation in operations or [Operation.ANY]
    ]


def _list(wire: Wire, options: argparse.Namespace, output: Output) -> None:
    from logqueue.protocol.messages.describe_acls import DescribeAclsRequest
    from logqueue_api.cli.wire import check

    items = []
    for wanted in _filters(options):
        answer = wire.call(VERSION, DescribeAclsRequest(**wanted))
        check(answer, "listing ACLs")
        for resource in answer.resources:
            place = (resource.resource_type, resource.resource_name, resource.pattern_type)
            items += [_item(*place, acl) for acl in resource.acls]
    output.items(items, COLUMNS, empty="no ACLs")


def _remove(wire: Wire, options: argparse.Namespace, output: Output) -> None:
    from logqueue.protocol.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest
    from logqueue_api.cli.wire import check

    filters = [DeleteAclsFilter(**wanted) for wanted in _filters(options)]
    items = []
    for result in wire.call(VERSION, DeleteAclsRequest(filters=filters)).filter_results:
        check(result, "removing ACLs")
        for acl in result.matching_acls:
            check(acl, "removing an ACL")
            items.append(_item(acl.resource_type, acl.resource_name, acl.pattern_type, acl))
    output.items(items, COLUMNS, empty="no ACL was that")


def _item(kind: int, name: str, pattern: int, acl: Any) -> dict[str, str]:
    from logqueue.security.acl import Operation, PatternType, Permission, ResourceType

    return {
        "principal": acl.principal,
        "host": acl.host,
        "permission": Permission(acl.permission_type).name.lower(),
        "operation": Operation(acl.operation).name.lower().replace("_", "-"),
        "resource": ResourceType(kind).name.lower(),
        "pattern": PatternType(pattern).name.lower(),
        "name": name,
    }
