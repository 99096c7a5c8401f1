"""What one fetch finds in partitions, and the sessions in which a client names them once (KIP-227). Knows no socket."""
