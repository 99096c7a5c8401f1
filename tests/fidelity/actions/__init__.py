"""What steps can do, one file per part of the protocol; importing them registers their actions."""

from tests.fidelity.actions import configs, consumer_groups, groups, offsets, records, topics, transactions

__all__ = ["configs", "consumer_groups", "groups", "offsets", "records", "topics", "transactions"]
