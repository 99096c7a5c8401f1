"""What the log knows of topics: which there are, how many partitions they have, what is in them."""
