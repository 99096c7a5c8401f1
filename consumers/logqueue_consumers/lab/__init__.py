"""An app's jobs under test: the embedded log, real workers, and a clock that the test moves. See `job_lab`."""
