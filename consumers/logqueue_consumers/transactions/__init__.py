"""Exactly-once processing: outcomes, follow-up jobs and offsets in one Kafka transaction (KIP-98, KIP-447)."""
