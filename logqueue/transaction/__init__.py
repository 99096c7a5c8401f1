"""The transaction coordinator (KIP-98, KIP-360, KIP-890) as a machine without IO: requests and time in, effects out.

`coordinator.py` says how a shell runs it.
"""
