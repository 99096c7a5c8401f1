"""python -m tests.soak.clients KIND --name N --role R --bootstrap B --topic T --partitions P --history F --seed S"""

from __future__ import annotations

import asyncio
import logging

from tests.soak.clients.session import open_session


def main() -> None:
    kind, session = open_session()
    logging.disable(logging.CRITICAL)  # clients complain of every broken connection, and breaking them is the point
    match kind:
        case "confluent-producer":
            from tests.soak.clients.confluent_producers import run_idempotent

            run_idempotent(session)
        case "confluent-transactions":
            from tests.soak.clients.confluent_producers import run_transactional

            run_transactional(session)
        case "aiokafka-producer":
            from tests.soak.clients import aiokafka_producers

            asyncio.run(aiokafka_producers.run_idempotent(session))
        case "aiokafka-transactions":
            from tests.soak.clients import aiokafka_producers

            asyncio.run(aiokafka_producers.run_transactional(session))
        case "confluent-classic":
            from tests.soak.clients.consumers import run_confluent_classic

            run_confluent_classic(session)
        case "confluent-consumer":
            from tests.soak.clients.consumers import run_confluent_consumer

            run_confluent_consumer(session)
        case "exactly-once":
            from tests.soak.clients import exactly_once

            exactly_once.run(session)
        case "aiokafka-classic":
            from tests.soak.clients.consumers import run_aiokafka_classic

            asyncio.run(run_aiokafka_classic(session))
        case _:
            raise SystemExit(f"no client is called {kind}")


if __name__ == "__main__":
    main()
