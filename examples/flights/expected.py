"""What the jobs must come to, from one plain pass over the files: `python -m examples.flights.expected [--limit N]`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice

from examples.flights.assess import assess
from examples.flights.tables import flights, tables
from logqueue import Permanent

SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class Expected:
    """Counts of flights by carrier and outcome: `succeeded`, or the name of the error."""

    by_carrier: dict[str, Counter[str]]

    @property
    def by_outcome(self) -> Counter[str]:
        """Counts over all carriers."""
        return sum(self.by_carrier.values(), Counter())

    @property
    def by_state(self) -> dict[str, int]:
        """Counts by the state that the jobs end in: every error of a flight is permanent."""
        good = self.by_outcome[SUCCEEDED]
        return {SUCCEEDED: good, "dead": self.total - good}

    @property
    def total(self) -> int:
        """Flights in all."""
        return self.by_outcome.total()


def expected(limit: int | None = None) -> Expected:
    """The counts of the first `limit` flights of the file (None: of all)."""
    by_carrier: dict[str, Counter[str]] = {}
    known = tables()
    for flight in islice(flights(), limit):
        try:
            assess(flight, known)
            outcome = SUCCEEDED
        except Permanent as error:
            outcome = type(error).__name__
        by_carrier.setdefault(flight.carrier, Counter())[outcome] += 1
    return Expected(by_carrier)


def main() -> None:
    """Print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=None, help="only the first N flights")
    counts = expected(parser.parse_args().limit)
    shown = {
        "total": counts.total,
        "by_state": counts.by_state,
        "by_outcome": dict(counts.by_outcome.most_common()),
        "by_carrier": {carrier: dict(by_outcome) for carrier, by_outcome in sorted(counts.by_carrier.items())},
    }
    print(json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
