"""What logqueue is compared with: each peer is started by the harness, or missing with a reason."""
