"""The shell of the embedded log: sockets, tasks, start and stop order; one handler file per API."""
