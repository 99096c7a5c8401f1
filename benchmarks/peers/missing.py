"""A workload or peer that this machine cannot run. The text says what it lacks."""

from __future__ import annotations


class Missing(Exception):
    """What is missing, and how to have it; the workload is skipped."""
