"""Segments, indexes and logs in Kafka's on-disk format. The only room that touches files."""
