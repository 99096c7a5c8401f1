"""The Kafka wire protocol: bytes <-> messages. No IO."""
