"""`logqueue up` itself: preflight, the children in order, run.json, the screen, the stop."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from logqueue.broker.network.listener import CannotListen, bind
from logqueue.clock import Clock, SystemClock
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.up import plan as plans
from logqueue_api.up.app_card import AppCard
from logqueue_api.up.board import Addresses, Board, ChildLine, Screen
from logqueue_api.up.card_process import read_card
from logqueue_api.up.child import Child, ChildState, Notice
from logqueue_api.up.counts import Rates
from logqueue_api.up.hints import Hint, hints
from logqueue_api.up.http_get import get_json, is_ok
from logqueue_api.up.plan import API, BROKER, FEED, Plan, Recipes
from logqueue_api.up.run_file import DataFolder, DataFolderInUse, DataFolderUnusable, Run
from logqueue_api.up.signals import Signals
from logqueue_api.up.supervisor import ChildFailed, Supervisor
from logqueue_api.up.workforce import Workforce, is_worker

if TYPE_CHECKING:
    from logqueue.jobs.settings import Settings

LOG_DIR = "logs"
COUNT_SECONDS = 1.0
DRAW_SECONDS = 0.25
KNOWN_SECONDS = 30.0
KNOWN_PAUSE_SECONDS = 0.05
TOLD_AFTER_SECONDS = 2.0
# The Kafka client calls every refused connection an error while it goes on trying: our own lines say what came of it.
PROBLEM = re.compile(r"\[(error|critical)\s*\]|\b(ERROR|CRITICAL)\b(?!\] aiokafka)|^Traceback ")
PROBLEM_LINES = 5  # shown of one child in PROBLEM_SECONDS; its log has them all
PROBLEM_SECONDS = 10.0


class StackRun:
    """One run of a plan. `run` returns the exit code; CommandError says why it could not be."""

    def __init__(
        self,
        plan: Plan,
        *,
        make_screen: Callable[[Board], Screen],
        recipes: Recipes | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._plan = plan
        self._make_screen = make_screen
        self._screen: Screen
        self._recipes = recipes or Recipes()
        self._clock = clock or SystemClock()
        self._board = Board()
        self._rates = Rates()
        self._shown_problems: dict[str, deque[float]] = {}
        self._run: Run | None = None
        self._run_error = ""
        """Why run.json could not be written last."""
        self._supervisor: Supervisor
        self._folder: DataFolder

    async def run(self) -> int:
        """Start, watch, stop."""
        signals = Signals(self._clock)
        card = await read_card(self._plan, signals)
        if signals.stop.is_set():
            return ExitCode.INTERRUPTED
        _check_app(self._plan, card)
        self._check_ports()
        self._folder = self._take_folder()
        self._screen = self._make_screen(self._board)
        try:
            async with Supervisor(
                log_dir=self._plan.data_dir / LOG_DIR,
                on_notice=self._take_notice,
                on_line=self._take_line,
                on_change=self._publish,
            ) as self._supervisor:
                return await self._supervise(signals, card)
        finally:
            self._run = None
            self._screen.close()
            self._folder.forget()
            self._folder.release()

    def _take_folder(self) -> DataFolder:
        try:
            return DataFolder(self._plan.data_dir)
        except (DataFolderInUse, DataFolderUnusable) as error:
            raise CommandError(str(error), code=ExitCode.IN_USE, hint="--data-dir D takes another folder") from error

    async def _supervise(self, signals: Signals, card: AppCard | None) -> int:
        work = asyncio.create_task(self._work(card))
        failure = asyncio.create_task(self._supervisor.failed())
        stop = asyncio.create_task(signals.stop.wait())
        drawing = asyncio.create_task(self._draw())
        try:
            await asyncio.wait({work, failure, stop}, return_when=asyncio.FIRST_COMPLETED)
            was_ready = self._run is not None
            reason = next((t.exception() for t in (failure, work) if t.done() and not t.cancelled()), None)
            work.cancel()  # nothing more is started
            await asyncio.wait({work})
            await self._stop(signals, has_begun=was_ready or reason is None)
            if reason is not None:
                raise reason
        except ChildFailed as error:
            code = error.exit_code if error.exit_code in plans.FINAL_CODES else ExitCode.FAILED
            raise CommandError(str(error), code=ExitCode(code)) from error
        finally:
            for task in (work, failure, stop, drawing):
                task.cancel()
            await asyncio.gather(work, failure, stop, drawing, return_exceptions=True)
        return ExitCode.OK if was_ready and not signals.stop_now.is_set() else ExitCode.INTERRUPTED

    # -- starting ------------------------------------------------------------------------------------------------

    async def _work(self, card: AppCard | None) -> None:
        """Start everything in order, then keep the counts fresh until cancelled."""
        plan, recipes, start = self._plan, self._recipes, self._supervisor.start
        bootstrap = plan.bootstrap
        if bootstrap is None:
            self._phase("starting the log")
            broker = await start(recipes.broker(plan))
            assert broker.ready is not None
            bootstrap = f"{broker.ready[1]}:{broker.ready[2]}"
        self._phase("starting the API")
        api = await start(recipes.api(plan, bootstrap=bootstrap))
        assert api.ready is not None
        url = api.ready[1]
        workforce = self._make_workforce(card, bootstrap=bootstrap, api=url)
        if workforce is not None:
            self._phase("starting workers")
            await workforce.start()
        await self._until_caught_up(url)
        if card is not None:
            await self._until_known(card, url)
        self._board.phase = ""
        self._run = Run(bootstrap=bootstrap, api=url, broker=None, api_process=None)
        self._publish()
        self._tell_ready(card, self._run)
        if plan.feed is not None:
            self._supervisor.launch(recipes.feed(plan, bootstrap=bootstrap, api=url))
        while True:
            document = await get_json(f"{url}/v1/queues")
            if document is not None:
                self._board.queues = self._rates.take(document, now=self._clock.monotonic())
                if workforce is not None:
                    workforce.scale(self._board.queues)
            if workforce is not None:
                workforce.replace_stuck(await get_json(f"{url}/v1/workers"))
            self._publish()
            await asyncio.sleep(COUNT_SECONDS)

    def _make_workforce(self, card: AppCard | None, *, bootstrap: str, api: str) -> Workforce | None:
        plan, limits = self._plan, self._plan.scale
        if limits is None or card is None:
            return None
        return Workforce(
            self._supervisor,
            make=lambda name: self._recipes.worker(plan, name, bootstrap=bootstrap, api=api),
            queues=plan.queues or card.queues,
            limits=limits,
            capacity=plan.capacity,
            clock=self._clock,
            on_notice=self._take_notice,
        )

    async def _until_caught_up(self, url: str) -> None:
        """Wait for /readyz. A view that is made anew takes minutes for millions of jobs; workers do not wait for it."""
        began, is_told = self._clock.monotonic(), False
        while not await is_ok(f"{url}/readyz"):
            if not is_told and self._clock.monotonic() > began + TOLD_AFTER_SECONDS:
                is_told = True
                self._phase(f"the view catches up: see {url}/readyz")
            await asyncio.sleep(KNOWN_PAUSE_SECONDS)

    async def _until_known(self, card: AppCard, url: str) -> None:
        """Wait until the API has read what the workers declare: ready means that a first POST is understood."""
        types = {job.type for job in card.jobs if not self._plan.queues or job.queue in self._plan.queues}
        deadline = self._clock.monotonic() + KNOWN_SECONDS
        while self._clock.monotonic() < deadline:
            document = await get_json(f"{url}/v1/queues") or {}
            if types <= {name for item in document.get("items", ()) for name in item.get("types", ())}:
                return
            await asyncio.sleep(KNOWN_PAUSE_SECONDS)
        self._take_notice(Notice(API, f"does not know the jobs of {card.name} yet: its view lags", is_problem=True))

    def _check_ports(self) -> None:
        """A port that is taken is told before anything is started."""
        asked = [(self._plan.http_port, "--http-port")]
        if self._plan.bootstrap is None:
            asked.insert(0, (self._plan.kafka_port, "--kafka-port"))
        for port, option in asked:
            try:
                bind(self._plan.host, port).close()
            except CannotListen as error:
                raise CommandError(
                    str(error), code=ExitCode.IN_USE, hint=f"{option} N takes another port, {option} 0 any free one"
                ) from None

    # -- stopping ------------------------------------------------------------------------------------------------

    async def _stop(self, signals: Signals, *, has_begun: bool) -> None:
        """Workers drain while the log and the API still answer; the log goes last. A failed start promises nothing."""
        self._run = None
        self._folder.forget()
        drain = "stopping: running jobs are finished first (Ctrl-C again to stop at once)"
        self._phase(drain if has_begun else "could not start: stopping what had started")
        workers = [name for name in self._supervisor.children if name not in (BROKER, API, FEED)]
        stopping = asyncio.create_task(self._supervisor.stop([FEED], workers, [API], [BROKER]))
        hurry = asyncio.create_task(signals.stop_now.wait())
        await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if hurry.done():
            self._phase("stopping at once")
            self._supervisor.hurry()
        hurry.cancel()
        await stopping
        self._board.is_over = True
        self._phase(
            f"stopped; everything is in {self._plan.data_dir}, the same command continues" if has_begun else "stopped"
        )

    # -- telling -------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """run.json and the board follow every change of a child. What a full disk does not take is tried again."""
        children = self._supervisor.children
        self._board.children = [
            ChildLine(child.name, _state(child), child.pid, child.restarts) for child in children.values()
        ]
        if self._run is None:
            return
        pids = {name: child.pid for name, child in children.items()}
        present = Run(
            bootstrap=self._run.bootstrap,
            api=self._run.api,
            broker=pids.get(BROKER),
            api_process=pids.get(API),
            workers=tuple(pid for name, pid in pids.items() if is_worker(name) and pid is not None),
        )
        if present == self._run:
            return
        try:
            self._folder.publish(present)
        except OSError as error:
            if str(error) != self._run_error:
                self._run_error = str(error)
                self._take_notice(Notice("up", f"run.json cannot be written: {error.strerror}", is_problem=True))
        else:
            self._run, self._run_error = present, ""

    def _tell_ready(self, card: AppCard | None, run: Run) -> None:
        plan = self._plan
        addresses = Addresses(
            bootstrap=run.bootstrap,
            api=run.api,
            data_dir=str(plan.data_dir),
            is_embedded=plan.bootstrap is None,
            app=f"{card.name} ({plan.app}), {_workers(plan)}" if card else None,
            metrics=self._broker_metrics(),
        )
        self._screen.ready(addresses, self._hints(card, run), run.to_json())

    def _broker_metrics(self) -> str | None:
        """Where the embedded log tells its figures."""
        broker = self._supervisor.children.get(BROKER)
        return None if broker is None or broker.ready is None else broker.ready[3]

    def _hints(self, card: AppCard | None, run: Run) -> list[Hint]:
        found = hints(
            card=card,
            bootstrap=run.bootstrap,
            api=run.api,
            logqueue=_command(self._plan),
            python=_python_path(),
            settings=_security(self._plan),
        )
        return [Hint(hint.what, hint.line.replace("{app}", self._plan.app or "")) for hint in found]

    def _phase(self, text: str) -> None:
        self._board.phase = text
        self._screen.phase(text)

    def _take_notice(self, notice: Notice) -> None:
        self._board.problems.append((datetime.now().strftime("%H:%M:%S"), notice))
        self._screen.notice(notice)

    def _take_line(self, name: str, line: str) -> None:
        if name == FEED:
            self._board.feed = line
        if PROBLEM.search(line):
            self._take_problem(name, line)

    def _take_problem(self, name: str, line: str) -> None:
        """Show it, unless the child floods the screen."""
        now = self._clock.monotonic()
        shown = self._shown_problems.setdefault(name, deque(maxlen=PROBLEM_LINES))
        if len(shown) == PROBLEM_LINES and now - shown[0] < PROBLEM_SECONDS:
            return
        shown.append(now)
        self._take_notice(Notice(name, line, is_problem=True))

    async def _draw(self) -> None:
        while True:
            self._screen.draw(self._board)
            await asyncio.sleep(DRAW_SECONDS)


def _state(child: Child) -> str:
    """The child's state in a word; a one-shot child that has ended is done, one that runs is at work."""
    if child.spec.is_one_shot and child.state is ChildState.ENDED:
        return "done"
    return child.state.value


def _command(plan: Plan) -> str:
    """How this installation's command is called, with the data folder where it is not the default."""
    from logqueue_api.cli.arguments import DEFAULT_DATA_DIR

    name = shlex.quote(_short(sys.argv[0])) if sys.argv[0].endswith("logqueue") else "logqueue"
    return name + ("" if str(plan.data_dir) == DEFAULT_DATA_DIR else f" --data-dir={shlex.quote(str(plan.data_dir))}")


def _python_path() -> str:
    return shlex.quote(_short(sys.executable))


def _short(path: str) -> str:
    """Relative to the current directory where that is shorter to copy."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _security(plan: Plan) -> Settings | None:
    """How clients get into an outside cluster that wants TLS or a login; None: they need nothing."""
    if plan.bootstrap is None:
        return None
    from logqueue.jobs.settings import load_settings

    settings = load_settings(environ=plan.environment, bootstrap=plan.bootstrap)
    return None if settings.security_protocol == "PLAINTEXT" else settings


def _check_app(plan: Plan, card: AppCard | None) -> None:
    """Every worker would refuse a queue that the app does not have, and an app without jobs: told before a start."""
    if card is None:
        if plan.queues:
            raise UsageError(f"--queue {plan.queues[0]} is for workers, and without APP there are none")
        return
    if not card.jobs:
        raise UsageError(f"App {card.name!r} declares no job: there is nothing to work on")
    for queue in plan.queues:
        if queue not in card.queues:
            from logqueue.jobs.errors import UnknownQueue

            raise UsageError(str(UnknownQueue(queue, app=card.name, known=card.queues)))


def _workers(plan: Plan) -> str:
    if plan.most_workers > plan.workers:
        return f"{plan.workers} to {plan.most_workers} workers"
    return _count(plan.workers, "worker")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
