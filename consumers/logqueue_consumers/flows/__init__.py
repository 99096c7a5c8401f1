"""Workflows: chains, groups, chords and DAGs of jobs in `jobs.flows`, one owner per partition. See `machine`."""
