"""What workers tell of themselves every few seconds, who reads it, and whether a worker gets on with its work."""
