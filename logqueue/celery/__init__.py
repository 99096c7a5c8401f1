"""Celery's words over an app, for code that moves over: `@celery.task`, `.delay`, `.apply_async`, `AsyncResult`.

    from logqueue.celery import Celery

    celery = Celery("shop")

    @celery.task(bind=True, max_retries=3, default_retry_delay=60)
    def send_email(self, to: str, body: str) -> None:
        try:
            smtp(to, body)
        except OSError as error:
            raise self.retry(exc=error)

    send_email.delay("a@b.c", "hi").get(timeout=30)

`celery.app` is the App that `logqueue worker` runs. docs/migrating-from-celery.md says what differs. Calls block, as
Celery's do: a thread of its own speaks to the log. Async code has `task.definition.send`.
"""

from logqueue.celery.application import Celery, Task
from logqueue.celery.result import AsyncResult
from logqueue.celery.running import BoundTask, MaxRetriesExceeded, Request, RetryAsked

__all__ = ["AsyncResult", "BoundTask", "Celery", "MaxRetriesExceeded", "Request", "RetryAsked", "Task"]
