"""Group coordination as sans-IO state machines.

`coordinator.GroupCoordinator` is the door; `effects` holds what goes in and comes out. One file per API or concern.

Classic groups: joining, membership (sync, heartbeat, leave); `rebalance` is the state machine.
Consumer groups (KIP-848): `consumer_coordinator` wires consumer_heartbeat, classic_members, departures and migration,
which work on drafts of a `consumer_group`; reconciliation and assignors decide who gets what.
Both: commits, fetching, listing, removal.
"""
