"""Confluent's Schema Registry API over the schema topic."""
