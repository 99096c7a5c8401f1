"""Committed offsets, and what stands in their metadata."""
