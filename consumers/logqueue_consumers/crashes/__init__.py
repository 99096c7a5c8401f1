"""Jobs that end their process: found, run alone, and dead-lettered."""
