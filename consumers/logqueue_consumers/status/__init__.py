"""Status records: written with each outcome, and followed by whoever takes a partition over."""
