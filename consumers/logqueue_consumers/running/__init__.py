"""Handlers at work, and what their context does for them."""
