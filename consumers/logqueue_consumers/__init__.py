"""The consumer groups over any Kafka-protocol log: workers, replay, the view."""
