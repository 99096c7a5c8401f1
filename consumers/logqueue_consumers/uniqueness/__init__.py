"""Unique jobs: one of a kind at a time, exact for a tenant because its partition has one owner."""
