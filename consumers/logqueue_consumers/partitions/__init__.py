"""A partition that this worker owns: what is in hand, what is done, which jobs wait for which."""
