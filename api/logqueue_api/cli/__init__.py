"""The `logqueue` command: one file per command, imported only when that command is asked for."""
