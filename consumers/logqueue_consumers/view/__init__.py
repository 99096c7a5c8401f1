"""The view: a fold of the topics into one SQLite file that can be deleted and comes back. Knows no HTTP."""
