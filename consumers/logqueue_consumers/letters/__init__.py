"""Dead letters: reading, counting and choosing them."""
