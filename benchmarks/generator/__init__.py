"""Load at the byte level: prepared requests, sent by a small C program so that no client's cost is in the figures."""
