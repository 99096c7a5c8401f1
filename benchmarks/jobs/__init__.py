"""Jobs that every queue under comparison runs, and the queues. `work` imports nothing: it also runs beside peers."""
