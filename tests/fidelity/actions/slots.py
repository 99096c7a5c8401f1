"""The names that steps are made of."""

from __future__ import annotations

from tests.fidelity.steps import mostly

# t0 has three partitions, t1 is compacted, both are there from the start; t2 and t3 come and go.
TOPICS = mostly("t0", "t1", "t2", "t3")
ANY_TOPIC = mostly("t0", "t1", "t2", "t3", "missing", "<empty>", "<spaces>")
OWN_TOPIC = mostly("t2", "t3")
PARTITIONS = mostly(0, 1, 2, 7, -1)
GROUPS = mostly("g0", "g1", "c0")
CONSUMER_GROUPS = mostly("c0", "c1", "g0")
ANY_GROUP = mostly("g0", "g1", "c0", "c1", "nobody", "<empty>")
MEMBERS = mostly("m0", "m1", "m2")
EXAMPLES = {"t0": 3, "t1": 1}
