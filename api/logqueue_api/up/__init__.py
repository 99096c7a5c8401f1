"""`logqueue up`: one supervisor for the log, the API and the workers of one machine, and its screen."""
