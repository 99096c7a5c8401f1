"""Every flight that left New York in 2013, each one a job of its carrier."""
