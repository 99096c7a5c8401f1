"""What coordinators have in common as sans-IO machines: moments, callers, deadlines, where an id lives. No states."""
