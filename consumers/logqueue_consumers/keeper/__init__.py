"""Keepers: state that outlives jobs, in compacted topics with one owner per partition. See `machine` and `keepers`."""
