"""Jobs that every queue under comparison runs, and the queues. `work` needs nothing installed: peers run it too."""
