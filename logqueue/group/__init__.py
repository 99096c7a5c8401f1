"""Consumer-group coordination as sans-IO state machines."""
