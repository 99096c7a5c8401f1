"""What becomes of a failed attempt, and the waiting until the next."""
