"""A worker's place in its consumer group."""
