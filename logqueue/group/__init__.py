"""Consumer-group coordination as sans-IO state machines.

`coordinator.GroupCoordinator` is the door; `effects` holds what goes in and comes out. One file per API or concern:
joining, membership (sync, heartbeat, leave), commits, fetching, listing, removal; `rebalance` is the state machine.
"""
