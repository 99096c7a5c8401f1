"""What operators and handlers do to a job beside running it: cancel, run now, progress, log lines, steps."""
