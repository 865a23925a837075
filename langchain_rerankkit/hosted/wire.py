"""Sends what an `Endpoint` says, on threads or in an event loop."""

from __future__ import annotations

import asyncio
import math
import os
import queue
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.runnables.config import ContextThreadPoolExecutor

from langchain_rerankkit._optional import require
from langchain_rerankkit._steps import advance, gather
from langchain_rerankkit.hosted.addresses import is_public, origin
from langchain_rerankkit.hosted.answers import Heard
from langchain_rerankkit.hosted.connections import Lanes, LoopLanes, WireSettings, close_all, hush, let_go, made, silent
from langchain_rerankkit.hosted.endpoint import Call, NoAnswerError, Pause, Steps
from langchain_rerankkit.hosted.query import Spent

__all__ = ["Job", "Wire"]


@dataclass
class Job:
    """The requests of one query.

    Attributes:
        steps: What each of them does.
        spent: What it costs; says when one of them failed, so that the others stop.
        deadline: When the answer is of no use any more, on the clock of `time.monotonic`.
        late: The error for that.
        busy: Clients that are at it.
    """

    steps: Sequence[Steps]
    spent: Spent
    deadline: float
    late: Callable[[], Exception]
    busy: set[Any] = field(default_factory=set)


class Wire:
    """Open connections.

    Args:
        settings: How requests are sent.
    """

    def __init__(self, settings: WireSettings) -> None:
        self._settings = settings
        self._httpx = require("httpx", extra="hosted")
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._limit: int | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLanes] = weakref.WeakKeyDictionary()
        self._executor: ContextThreadPoolExecutor | None = None
        self._begin()
        hush()
        weakref.finalize(self, let_go, self._loops)

    def _begin(self) -> None:
        """Without connections and threads: at first, and after a fork, which leaves them to the parent."""
        self._pid = os.getpid()
        self._executor = None
        self._lanes = Lanes(self._settings.max_concurrency, self._settings.client, queue.LifoQueue())
        weakref.finalize(self, close_all, self._lanes.made)

    # --- on threads -----------------------------------------------------------------------------------------------

    def limit(self, steps: Steps, deadline: float) -> int | None:
        """What came of asking for the server's limit, before the deadline; it is asked until it answers once."""
        if self._limit is None and self._asking.acquire(timeout=-1 if deadline == math.inf else _left(deadline)):
            try:
                if self._limit is None:
                    job = Job([steps], Spent(), deadline, late=TimeoutError)
                    (found,) = self.run([job])
                    self._limit = found[0] if isinstance(found, list) else None
            finally:
                self._asking.release()
        return self._limit

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """What came of the requests of some queries: for each query a list of results, or an exception."""
        if len(jobs) == 1 and len(jobs[0].steps) == 1 and jobs[0].deadline == math.inf:
            try:
                return [[self.drive(jobs[0].steps[0], jobs[0].busy)]]
            except Exception as error:  # noqa: BLE001 - the outcome of this query
                return [error]
        futures = [[self._submit(job, steps) for steps in job.steps] for job in jobs]
        return [self._collect(job, mine) for job, mine in zip(jobs, futures, strict=True)]

    def _submit(self, job: Job, steps: Steps) -> Future[Any]:
        try:
            return self._threads().submit(self._part, job, steps)
        except RuntimeError:  # closed in this moment; it opens again
            return self._threads().submit(self._part, job, steps)

    def _part(self, job: Job, steps: Steps) -> Any:
        try:
            return self.drive(steps, job.busy)
        except Exception as error:
            job.spent.failed = job.spent.failed or error
            raise

    def _collect(self, job: Job, futures: list[Future[Any]]) -> Any:
        try:
            endless = job.deadline == math.inf
            return [future.result(None if endless else job.deadline - time.monotonic()) for future in futures]
        except FutureTimeoutError:
            job.spent.failed = job.late()
            # No thread can be interrupted: it is left to its time-outs, or to the end of its connection.
            for client in [] if self._lanes.given else list(job.busy):
                client.close()
        except Exception as error:  # noqa: BLE001 - the outcome of this query
            job.spent.failed = job.spent.failed or error
        for future in futures:
            future.cancel()
        return job.spent.failed

    def drive(self, steps: Steps, busy: set[Any]) -> Any:
        """Do what a generator says until it returns.

        Args:
            steps: The generator.
            busy: Holds the client that is at it.
        """
        done, step = advance(steps)
        while not done:
            value, failure = None, None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                try:
                    value = self._call(step, busy)
                except Exception as error:  # noqa: BLE001 - the generator's to judge
                    failure = error
            done, step = advance(steps, value, failure)
        return step

    def _call(self, call: Call, busy: set[Any]) -> Heard:
        lanes = self._here()
        try:
            lane = lanes.free.get(timeout=None if call.deadline == math.inf else _left(call.deadline))
        except queue.Empty:
            raise NoAnswerError(_BUSY, down=False) from None
        quiet = silent.set(True)
        try:
            if wait := call.admit():
                time.sleep(wait)
            lane = lanes.client(lane, partial(made, self._httpx.Client, self._settings))
            busy.add(lane)
            if not self._settings.allow_private_networks:
                _look(socket.getaddrinfo(*_place(call), type=socket.SOCK_STREAM))
            response = lane.send(self._request(lane, call, self._check), stream=True, follow_redirects=False)
            try:
                body = bytearray()
                # A hook of the user's client may have read it.
                for piece in [response.content] if response.is_stream_consumed else response.iter_raw():
                    self._grown(body, piece, call)
                return self._heard(response, body)
            finally:
                response.close()
        except Exception as error:  # noqa: BLE001 - told apart there
            raise self._no_answer(lane, error) from None
        finally:
            silent.reset(quiet)
            busy.discard(lane)
            over = lanes.leave(lane, spoilt=lane is not None and lane.is_closed)
            if over is not None:
                over.close()

    def _here(self) -> Lanes:
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._begin()
        return self._lanes

    def _threads(self) -> ContextThreadPoolExecutor:
        self._here()
        with self._lock:
            if self._executor is None:
                self._executor = ContextThreadPoolExecutor(
                    self._settings.max_concurrency, thread_name_prefix="rerankkit-hosted"
                )
                weakref.finalize(self, self._executor.shutdown, wait=False, cancel_futures=True)
            return self._executor

    # --- in an event loop -----------------------------------------------------------------------------------------

    async def alimit(self, steps: Steps, deadline: float) -> int | None:
        """What came of asking for the server's limit, before the deadline; it is asked until it answers once."""
        if self._limit is None:
            try:
                await asyncio.wait_for(self._ask(steps), None if deadline == math.inf else _left(deadline))
            except asyncio.TimeoutError:
                return None
        return self._limit

    async def _ask(self, steps: Steps) -> None:
        async with (await self._aloop()).asking:
            if self._limit is None:
                self._limit = await self.adrive(steps)

    async def arun(self, jobs: Sequence[Job]) -> list[Any]:
        """What came of the requests of some queries: for each query a list of results, or an exception."""
        return await gather([self._ajob(job) for job in jobs])

    async def _ajob(self, job: Job) -> Any:
        try:
            work = gather([self.adrive(steps) for steps in job.steps])
            if job.deadline == math.inf:
                return await work
            try:
                return await asyncio.wait_for(work, _left(job.deadline))
            except asyncio.TimeoutError:
                return job.late()
        except Exception as error:  # noqa: BLE001 - the outcome of this query
            return error

    async def adrive(self, steps: Steps) -> Any:
        """Do what a generator says until it returns."""
        done, step = advance(steps)
        while not done:
            value, failure = None, None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                try:
                    value = await self._acall(step)
                except Exception as error:  # noqa: BLE001 - the generator's to judge
                    failure = error
            done, step = advance(steps, value, failure)
        return step

    async def _acall(self, call: Call) -> Heard:
        lanes = (await self._aloop()).lanes
        lane = await lanes.free.get()
        quiet = silent.set(True)
        spoilt = True  # a call that is cancelled may leave its connection in no state
        try:
            if wait := call.admit():
                await asyncio.sleep(wait)
            lane = lanes.client(lane, partial(made, self._httpx.AsyncClient, self._settings))
            if not self._settings.allow_private_networks:
                found = asyncio.get_running_loop().getaddrinfo(*_place(call), type=socket.SOCK_STREAM)
                _look(await found)
            if call.signer is None:
                request = self._request(lane, call, self._acheck)
            else:  # it may ask the vendor for a token
                request = await asyncio.to_thread(self._request, lane, call, self._acheck)
            response = await lane.send(request, stream=True, follow_redirects=False)
            try:
                body = bytearray()
                if response.is_stream_consumed:  # by a hook of the user's client
                    self._grown(body, response.content, call)
                else:
                    async for piece in response.aiter_raw():
                        self._grown(body, piece, call)
            finally:
                await response.aclose()
            spoilt = False
            return self._heard(response, body)
        except Exception as error:  # noqa: BLE001 - told apart there
            spoilt = False
            raise self._no_answer(lane, error) from None
        finally:
            silent.reset(quiet)
            over = lanes.leave(lane, spoilt=spoilt)
            if over is not None:
                await over.aclose()

    async def _aloop(self) -> LoopLanes:
        running = asyncio.get_running_loop()
        here = self._loops.get(running)
        if here is None:
            settings = self._settings
            lanes = Lanes(settings.max_concurrency, settings.async_client, asyncio.LifoQueue())
            here = LoopLanes(lanes)
            with self._lock:
                for loop in [loop for loop in self._loops if loop.is_closed()]:
                    LoopLanes.guards.discard(self._loops.pop(loop).guard)
                self._loops[running] = here
        if not here.guarded:
            here.guarded = True
            await anext(here.guard)
        return here

    # --- for both -------------------------------------------------------------------------------------------------

    def _request(self, client: Any, call: Call, check: Callable[..., Any]) -> Any:
        headers, content = dict(call.headers), call.content()
        if call.signer is not None:
            headers |= call.signer(call.method, call.url, headers, content)
        timeout = min(self._settings.timeout, _left(call.deadline))
        extensions = {} if self._settings.allow_private_networks else {"trace": check}
        return client.build_request(
            call.method, call.url, headers=headers, content=content, timeout=timeout, extensions=extensions
        )

    def _grown(self, body: bytearray, piece: bytes, call: Call) -> None:
        body += piece
        if len(body) > self._settings.max_response_bytes:
            msg = f"answered with more than {self._settings.max_response_bytes} bytes"
            raise NoAnswerError(msg, retryable=False, down=False)
        if time.monotonic() > call.deadline:
            msg = "had not finished before the deadline"
            raise NoAnswerError(msg)

    @staticmethod
    def _heard(response: Any, body: bytearray) -> Heard:
        # Compression was declined, since a small answer could unfold without end.
        if response.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            msg = "answered with compressed data that was not asked for"
            raise NoAnswerError(msg, retryable=False, down=False)
        return Heard(response.status_code, response.headers, bytes(body))

    def _no_answer(self, client: Any, error: Exception) -> Exception:
        """What to make of an error of httpx, or of the package that the user's own client is from."""
        httpx = sys.modules.get(type(client).__module__.partition(".")[0], self._httpx)
        if not hasattr(httpx, "TransportError"):
            httpx = self._httpx
        if isinstance(error, httpx.TimeoutException):
            return NoAnswerError(f"did not answer in time ({type(error).__name__})")
        if isinstance(error, httpx.TransportError):
            # Of others not even the text: it may quote a header of ours, or what the server sent.
            told = f": {error}" if isinstance(error, httpx.NetworkError) else ""
            final = isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol)) or "CERTIFICATE" in told
            return NoAnswerError(f"could not be reached ({type(error).__name__}{told})", retryable=not final)
        if isinstance(error, RuntimeError) and client is not None and client.is_closed:
            return NoAnswerError("was not heard to the end, since the client was closed", down=False)
        if isinstance(error, (httpx.InvalidURL, UnicodeError, socket.gaierror)):
            return NoAnswerError("could not be reached, since its address leads nowhere", retryable=False, down=False)
        return error

    def _check(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete" and not _public(info["return_value"]):
            info["return_value"].close()
            raise NoAnswerError(_PRIVATE, retryable=False, down=False)

    async def _acheck(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete" and not _public(info["return_value"]):
            await info["return_value"].aclose()
            raise NoAnswerError(_PRIVATE, retryable=False, down=False)

    def close(self) -> None:
        """Close connections that were opened here; those of event loops are closed by them."""
        with self._lock:
            executor, self._executor = self._executor, None
        close_all(self._lanes.close())
        let_go(self._loops)
        if executor is not None:
            executor.shutdown(wait=False)

    async def aclose(self) -> None:
        """Close connections that were opened here, also those of the running event loop."""
        here = self._loops.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.guard.aclose()
        self.close()


_BUSY = "was not asked: max_concurrency requests are under way"
_PRIVATE = "was not asked: its address is not a public one, and allow_private_networks is False"


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _place(call: Call) -> tuple[str, int]:
    _, host, port = origin(call.url)
    return host, port


def _look(found: Iterable[Any]) -> None:
    """Refuse a host before it is connected to. What it is connected to then is looked at, too: names change."""
    if not all(is_public(str(address[4][0])) for address in found):
        raise NoAnswerError(_PRIVATE, retryable=False, down=False)


def _public(stream: Any) -> bool:
    address: Iterable[Any] = stream.get_extra_info("server_addr") or ("",)
    return is_public(str(next(iter(address))))
