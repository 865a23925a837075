"""Open connections: how they are made, how many there are, and when they are closed."""

from __future__ import annotations

import asyncio
import logging
import queue
import ssl
import weakref
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from langchain_rerankkit._optional import require

__all__ = ["Lanes", "LoopLanes", "WireSettings", "close_all", "let_go", "made"]


_IDLE = 60.0  # seconds that a connection is kept without a request


@dataclass(frozen=True)
class WireSettings:
    """How requests are sent.

    Attributes:
        timeout: Seconds for connecting, and for each wait for a part of the answer.
        max_concurrency: Most requests at the same time: of all threads, and in each event loop.
        max_response_bytes: Most bytes of an answer.
        proxy: URL of a proxy; by default what the environment says.
        verify: Whether certificates are checked, or a file or folder of those to trust.
        allow_private_networks: Whether addresses that are not public may be talked to.
        trust_env: Whether proxies of the environment are used.
        client: An ``httpx.Client`` to use.
        async_client: An ``httpx.AsyncClient`` to use.
    """

    timeout: float
    max_concurrency: int
    max_response_bytes: int
    proxy: str | None
    verify: bool | str
    allow_private_networks: bool
    trust_env: bool
    client: Any
    async_client: Any


class Lanes:
    """As many clients of one connection each as there may be requests at the same time, made when they are needed.

    A single client would look through all of its connections at each step of each request: with 64 of them it is ten times
    slower (``python -m tests.benchmarks.hosted``).

    Args:
        count: Most requests at the same time.
        given: The user's client, for all of them.
        free: An empty stack, of threads or of an event loop: what was used last is taken first, its connection being open.
    """

    def __init__(self, count: int, given: Any, free: Any) -> None:
        self.free = free
        self.given = given is not None
        self.closing = False
        self.made: list[Any] = []
        for _ in range(count):
            free.put_nowait(given)

    def client(self, lane: Any, make: Callable[[], Any]) -> Any:
        """The client of a lane."""
        if lane is None:
            lane = make()
            self.made.append(lane)
        return lane

    def leave(self, lane: Any, *, spoilt: bool = False) -> Any:
        """Give a lane back; returns its client where that is to be closed now, as one that is spoilt is."""
        over = not self.given and lane is not None and (self.closing or spoilt)
        if over:
            self.made.remove(lane)
        self.free.put_nowait(None if over else lane)
        return lane if over else None

    def close(self) -> list[Any]:
        """Clients to be closed now; those in use are given out by `leave`."""
        self.closing = True
        idle: list[Any] = []
        for _ in range(self.free.qsize()):
            try:
                idle.append(self.free.get_nowait())
            except (queue.Empty, asyncio.QueueEmpty):
                break
        return [client for client in (self.leave(lane) for lane in idle) if client is not None]


class LoopLanes:
    """The clients of one event loop, which are closed when it ends, or before if nobody needs them.

    Loops close the asynchronous generators that are open when they end, so there is one. It is held here and not by the
    `Wire`: the end of a loop would cancel what the garbage collector has begun.

    Args:
        lanes: The clients.
    """

    guards: ClassVar[set[AsyncGenerator[None, None]]] = set()

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.asking = asyncio.Lock()
        self.guarded = False
        self.guard = self._until_the_end()
        self._idle: list[Any] = []
        self._closing: asyncio.Task[None] | None = None
        self.guards.add(self.guard)

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.guards.discard(self.guard)
            if self._closing is not None:
                await asyncio.wait([self._closing])
            await self._close()

    async def _close(self) -> None:
        self._idle += self.lanes.close()
        while self._idle:
            await self._idle.pop().aclose()
        self.guards.discard(self.guard)

    def let_go(self) -> None:
        """Close them soon. Called in the loop."""
        self._closing = asyncio.get_running_loop().create_task(self._close())


silent = ContextVar("silent", default=False)
"""Whether a request of ours is under way: httpx and others log addresses, headers and what signatures are made of."""


def hush() -> None:
    """Keep requests of ours out of other packages' logs."""
    for name in (
        "httpx",
        *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy")),
        "botocore.auth",
    ):
        logging.getLogger(name).addFilter(_is_others)  # adding it again changes nothing


def _is_others(_: logging.LogRecord) -> bool:
    return not silent.get()


def made(kind: Callable[..., Any], settings: WireSettings) -> Any:
    """A client for one connection.

    Args:
        kind: ``httpx.Client`` or ``httpx.AsyncClient``.
        settings: Proxies and TLS.
    """
    return kind(
        verify=_ssl_context(settings.verify),
        proxy=settings.proxy,
        trust_env=settings.trust_env,
        limits=require("httpx", extra="hosted").Limits(max_connections=1, keepalive_expiry=_IDLE),
    )


def close_all(clients: list[Any]) -> None:
    """Close clients that are not asynchronous."""
    for client in clients:
        client.close()


def let_go(loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLanes]) -> None:
    """Let event loops close the clients that nobody uses any more."""
    for loop, here in list(loops.items()):
        if loop.is_closed():
            LoopLanes.guards.discard(here.guard)
        else:
            loop.call_soon_threadsafe(here.let_go)
    loops.clear()


@cache
def _ssl_context(verify: bool | str) -> Any:
    """Made once: it takes longer than many requests."""
    if isinstance(verify, bool):
        return require("httpx", extra="hosted").create_ssl_context(verify=verify)
    path = Path(verify).expanduser()
    if path.is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)
