"""Runs `up` over tiny children instead of a broker, an API and workers: `python fake_children.py DATA_DIR [options]`.

Each child waits as long as the file `hold-<name>` is in the data folder before it says that it is ready, so that a
test can stop `up` in every phase of its start. `/readyz` says 503 as long as the file `behind` is there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from logqueue_api.cli.exits import CommandError
from logqueue_api.up import plan as plans
from logqueue_api.up.child import ChildSpec
from logqueue_api.up.screens import make_screen
from logqueue_api.up.stack_run import StackRun

HOLD = """
import os, signal, sys, threading, time
folder, name = sys.argv[1], sys.argv[2]
stubborn = os.path.exists(f"{folder}/stubborn-{name}")
signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else lambda *_: (print("bye", flush=True), os._exit(0)))
print("hello", flush=True)
while os.path.exists(f"{folder}/hold-{name}"):
    time.sleep(0.01)
"""
BROKER = HOLD + "print('logqueue broker ready on 127.0.0.1:7777', flush=True)\nwhile True: signal.pause()"
WORKER = HOLD + "print('logqueue worker ready', flush=True)\nwhile True: signal.pause()"
API = (
    HOLD
    + """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"items": [{"queue": "flights", "types": ["email.send"], "counts": {"succeeded": 12345}}]})
        is_behind = self.path == "/readyz" and os.path.exists(f"{folder}/behind")
        self.send_response(503 if is_behind else 200)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"logqueue api ready on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""
)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--app")
    parser.add_argument("--bootstrap")
    options = parser.parse_args()

    def recipe(name: str, code: str, ready_line: object, **more: object) -> ChildSpec:
        line = [sys.executable, "-S", "-c", code, str(options.data_dir), name]
        return ChildSpec(name=name, command=lambda ready: line, environment=os.environ, ready_line=ready_line, **more)  # type: ignore[arg-type]

    plan = plans.Plan(
        app=options.app,
        data_dir=options.data_dir,
        host="127.0.0.1",
        kafka_port=0,
        http_port=0,
        workers=options.workers,
        queues=(),
        worker_options=(),
        drain_seconds=5,
        bootstrap=options.bootstrap,
        feed=None,
        feed_all=False,
        environment=dict(os.environ),
    )
    recipes = plans.Recipes(
        broker=lambda plan: recipe("broker", BROKER, plans.BROKER_READY),
        api=lambda plan, bootstrap: recipe("api", API, plans.API_READY),
        worker=lambda plan, name, bootstrap, api: recipe(name, WORKER, plans.WORKER_READY),
    )
    try:
        return asyncio.run(
            StackRun(plan, make_screen=lambda board: make_screen(board, is_json=False), recipes=recipes).run()
        )
    except CommandError as error:
        print(f"logqueue: {error.message}", file=sys.stderr)
        return error.code


if __name__ == "__main__":
    sys.exit(main())
