"""Sockets to frames and back: listeners, connections plain and TLS, sessions and their bounds. Knows no request."""
