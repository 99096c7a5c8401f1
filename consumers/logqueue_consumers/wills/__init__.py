"""What a worker leaves behind for the case that it is killed, and those who see to it."""
