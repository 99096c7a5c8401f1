"""Group coordination as sans-IO state machines.

`coordinator.GroupCoordinator` is the door; what goes in and comes out are `coordination.effects`. One file per API or
concern.

    classic/    joining, membership (sync, heartbeat, leave); `rebalance` is the state machine
    consumer/   KIP-848: `coordinator` wires heartbeat, classic_members, departures and migration, which work on drafts
                of a `group`; reconciliation and assignors decide who gets what
    offsets/    commits, fetching, what is committed
    here        what concerns both kinds: listing, removal, the records and what is under way (`ledger`)
"""
