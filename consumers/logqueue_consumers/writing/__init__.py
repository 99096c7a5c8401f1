"""Outcomes on their way into the log."""
