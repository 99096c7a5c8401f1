"""Groups whose members share out the work themselves (JoinGroup, SyncGroup): Kafka's classic protocol."""
