"""Committed offsets of groups of both kinds."""
