"""Topics and partitions as requests see them, and the fsyncs that they wait for."""
