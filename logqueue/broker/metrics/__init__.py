"""What the broker tells about itself: meters on the way of requests, a snapshot of the rest, a page for Prometheus."""
