"""The bounds of the network shell that are not Kafka settings. Numbers only, each with its reason."""

from __future__ import annotations

# One read of small requests: about 400 one-record produces, so that nobody else waits longer than a few milliseconds.
RECEIVE_BYTES = 64 * 1024

# The TCP window of a connection of large requests while small ones come beside it: a little more than a segment of the
# loopback interface, below which its sender stalls (1.5 MB/s with 32 KiB). With 64 KiB a small producer beside one of 1
# MB batches waits 0.9 to 1.6 ms (p99), with 96 KiB 0.9 to 4.2, with 128 as long as with the system's: 8 ms.
NARROW_WINDOW_BYTES = 64 * 1024

# After so many events with large reads of a connection (some milliseconds) it looks whether small requests came beside.
# One may be a heartbeat; two are somebody who waits. After so many looks without, the window is the system's again.
READS_PER_LOOK = 32
LIGHT_EVENTS_TO_NARROW = 2
CALM_LOOKS_TO_WIDEN = 8

# Bytes one readable event may take from one connection before the others get their turn.
READ_TURN_BYTES = 1024 * 1024

# Bytes one writable event may give to one connection before the others get their turn.
WRITE_TURN_BYTES = 4 * 1024 * 1024

# First buffer of a request larger than one read: a batch of max.message.bytes and its frame. It grows with what has
# really arrived, never with what was announced.
FRAME_BUFFER_BYTES = 1024 * 1024 + 64 * 1024

# Frame buffers kept for the next large request: page faults of fresh memory cost more than the copy into it.
SPARE_FRAME_BUFFERS = 8

# Answer bytes waiting in memory for a slow reader before its next requests are left unread.
QUEUED_RESPONSE_BYTES = 1024 * 1024

# A stored range up to this size is read and sent with its header in one call; larger ones go by sendfile.
INLINE_RECORDS_BYTES = 16 * 1024

# Joining segments below this total is cheaper than a vectored send.
JOIN_BYTES = 64 * 1024

# Connections taken from the backlog in one turn, and events taken from the poller at once.
ACCEPTS_PER_TURN = 64
EVENTS_PER_BATCH = 32
LISTEN_BACKLOG = 1024

# After this time no more events are taken in the same turn: timers and threads are heard, and fsyncs begin.
TURN_SECONDS = 0.0005

# Pause of the listener when the process has no descriptors left.
ACCEPT_PAUSE_SECONDS = 0.5

# Ends of a stop: parked requests are answered at once, then slow readers get this long to take their answers.
STOP_DRAIN_SECONDS = 2.0

# Bytes that a request has to gain in `logqueue.frame.timeout.ms` to be let go on: a slow line, not a drip.
FRAME_PROGRESS_BYTES = 64 * 1024

# Plain bytes that are encrypted in one call: four TLS records.
TLS_CHUNK_BYTES = 64 * 1024

# Authentications with PLAIN that are checked at once (thousands of hashes each, in threads that let the loop go on).
PLAIN_CHECKS = 2
