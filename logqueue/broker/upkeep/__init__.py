"""What happens to logs without a request: checkpoints, retention, compaction."""
