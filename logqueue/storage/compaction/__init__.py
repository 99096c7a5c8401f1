"""Compaction: of every key the newest record stays (KIP-71, KIP-354, KIP-534). Knows files and batches, no broker.

    plan.py           which part of a log may be compacted, and which log is the dirtiest
    job.py            one compaction as a value that can be handed to another process, and its results
    offset_map.py     key -> newest offset, in memory of a fixed size
    transactions.py   what was aborted, and which markers nothing hangs on any more
    batch_filter.py   a batch without the records that go
    compactor.py      reads segments, writes `.cleaned` files: everything between the two
    worker.py         the same in a process of its own, for the broker

The files take their place in `logqueue.storage.replacement`.
"""
