"""Settings and features while the broker runs: shown, changed, kept, in effect."""
