"""What a program needs to define jobs and put them on the log. Knows no broker."""
