"""A fast HTTP/1.1 server on the loopback interface that misbehaves on request, for the rerank APIs of other firms.

In a process of its own, for load tests: ``python -m tests.rerank_server cohere --latency 0.02 --faults 0.05 --seed 7``
prints its URL, serves the fake of that name until stdin closes, and then prints as JSON what it has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import socket
import ssl
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

PIECE = 16  # bytes of a dripping body that are sent at once
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass
class Request:
    """What a client sent: ``path`` is decoded and without the query string, ``headers`` have lower-case names."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What the server says to one request.

    Attributes:
        body: Bytes are sent as they are, None is an empty body, and all else is JSON, in which a NaN is ``NaN``.
        status: HTTP status.
        headers: More headers, such as ``Retry-After``; they replace the server's own.
        wait: Seconds before the answer begins.
        drip: Seconds between pieces of the body (of 16 bytes).
        cut: Send only so many bytes of the body, though Content-Length says all, then close the connection.
        drop: Close the connection without any answer.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0
    drip: float = 0
    cut: int | None = None
    drop: bool = False

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass
class Server:
    """A running server: where it is and what it has seen.

    Attributes:
        url: Without a path and without a slash at the end.
        requests: All requests, in the order they arrived.
        connections: Connections accepted in total.
        open_connections: Connections that are open now.
        most_at_once: Most requests that were being answered at the same time.
        most_connections: Most connections that were open at the same time.
    """

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    most_at_once: int = 0
    most_connections: int = 0


class _Site:
    """Takes the connections of one server, and is what they share; used by the server's thread only.

    Accepting is not left to asyncio's own server, which leaks what arrives while it closes.
    """

    def __init__(
        self,
        app: Callable[[Request], Reply],
        listener: socket.socket,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None,
        keep: bool,
    ) -> None:
        self.app, self.listener, self.loop, self.tls, self.keep = app, listener, loop, tls, keep
        self.seen = Server()
        self.busy = 0
        self.opening: set[asyncio.Task] = set()
        self.open: set[_Connection] = set()
        self.failures: list[Exception] = []

    def accept(self) -> None:
        for _ in range(100):
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # no more for now
            client.settimeout(0)
            task = self.loop.create_task(
                self.loop.connect_accepted_socket(lambda: _Connection(self), client, ssl=self.tls)
            )
            self.opening.add(task)
            task.add_done_callback(self.opened)

    def opened(self, task: asyncio.Task) -> None:
        self.opening.discard(task)
        if not task.cancelled():
            task.exception()  # a handshake that failed is the client's business

    async def stop(self) -> None:
        self.loop.remove_reader(self.listener)
        self.listener.close()
        await asyncio.sleep(0)  # lets those that have just arrived begin, so that they own their sockets
        for task in list(self.opening):
            task.cancel()
        for _ in range(10):
            for connection in list(self.open):
                connection.transport.abort()
            await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One connection; its requests are answered one after the other, with timers rather than tasks."""

    def __init__(self, site: _Site) -> None:
        self.site = site
        self.transport: Any = None
        self.received = bytearray()
        self.head: tuple[str, str, dict[str, str], int] | None = None  # of the request whose body is still coming
        self.answering = False
        self.last = False  # close after the answer
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        seen = self.site.seen
        self.site.open.add(self)
        seen.connections += 1
        seen.open_connections += 1
        seen.most_connections = max(seen.most_connections, seen.open_connections)

    def connection_lost(self, _: Exception | None) -> None:
        self.site.open.discard(self)
        self.site.seen.open_connections -= 1
        if self.timer:
            self.timer.cancel()
        if self.answering:
            self.answering = False
            self.site.busy -= 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.answering:
            self.read()

    def read(self) -> None:
        """Answer the next request, if all of it is here."""
        if self.head is None:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = self.received[:end].decode("latin-1").split("\r\n")
            del self.received[: end + 4]
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            method, target, version = first.split(" ")
            self.last = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
            self.head = method, target, headers, int(headers.get("content-length", 0))
            if headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "transfer-encoding" in headers:
                self.last, self.head = True, (method, target, headers, 0)
                self.answer(Reply("give a Content-Length", 411))
                return
        method, target, headers, length = self.head
        if len(self.received) < length:
            return
        body = bytes(self.received[:length])
        del self.received[:length]
        path, _, query = target.partition("?")
        path = unquote(path) if "%" in path else path
        request = Request(method, path, dict(parse_qsl(query)) if query else {}, headers, body)
        if self.site.keep:
            self.site.seen.requests.append(request)
        try:
            reply = self.site.app(request)
        except Exception as failure:  # noqa: BLE001 - it is raised again at the end of serve()
            self.site.failures.append(failure)
            reply = Reply(traceback.format_exc().encode(), 500, {"Content-Type": "text/plain"})
        self.answer(reply)

    def answer(self, reply: Reply) -> None:
        self.answering = True
        site = self.site
        site.busy += 1
        site.seen.most_at_once = max(site.seen.most_at_once, site.busy)
        if reply.wait:
            self.timer = site.loop.call_later(reply.wait, self.send, reply)
        else:
            self.send(reply)

    def send(self, reply: Reply) -> None:
        if reply.drop:
            self.last = True
            self.done()
            return
        content = reply.content
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        headers.update({name.lower(): value for name, value in reply.headers.items()})
        self.last = self.last or reply.cut is not None or headers.get("connection", "").lower() == "close"
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Unknown')}\r\n{lines}\r\n".encode("latin-1")
        content = content[: reply.cut]
        if reply.drip:
            self.transport.write(head)
            self.drip(content, reply.drip)
        else:
            self.transport.write(head + content)
            self.done()

    def drip(self, content: bytes, pause: float) -> None:
        self.transport.write(content[:PIECE])
        if len(content) > PIECE:
            self.timer = self.site.loop.call_later(pause, self.drip, content[PIECE:], pause)
        else:
            self.done()

    def done(self) -> None:
        self.answering, self.head, self.timer = False, None, None
        self.site.busy -= 1
        if self.last:
            self.transport.close()
        elif self.received:
            self.site.loop.call_soon(self.read_on)

    def read_on(self) -> None:
        """With a request that was sent before the last one was answered."""
        if not self.answering and not self.transport.is_closing():
            self.read()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # faster; never required
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@contextmanager
def serve(
    app: Callable[[Request], Reply],
    *,
    tls: tuple[str, str] | None = None,
    port: int = 0,
    keep: bool = True,
) -> Iterator[Server]:
    """Serve until the block ends; a failure of the app is answered with 500 and raised at the end of the block.

    Args:
        app: From a request to the reply. Called in the server's own thread, one request at a time.
        tls: Files with the certificate and its key, for https.
        port: 0 for any that is free.
        keep: Whether to remember all requests.
    """
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.settimeout(0)
    loop = _new_loop()
    site = _Site(app, listener, loop, context, keep)
    site.seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    loop.call_soon_threadsafe(loop.add_reader, listener, site.accept)
    try:
        yield site.seen
    finally:
        asyncio.run_coroutine_threadsafe(site.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    if site.failures:
        raise site.failures[0]


class Faults:
    """An app before which a share of the requests fail, evenly in each of four ways; ``counts`` tells how often."""

    def __init__(self, fake: Any, share: float, *, latency: float = 0, seed: int = 0) -> None:
        self.fake, self.share, self.latency = fake, share, latency
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()

    def __call__(self, request: Request) -> Reply:
        fault = "none"
        if self.share and self.random.random() < self.share:
            fault = self.random.choice(["429", "500", "cut", "slow"])
        self.counts[fault] += 1
        if fault == "429":
            reply = self.fake.error(429, "too many requests")
            reply.headers["Retry-After"] = "0.05"
        elif fault == "500":
            reply = self.fake.error(500, "internal error")
        else:
            reply = self.fake(request)
        reply.wait = 2 if fault == "slow" else reply.wait or self.latency
        if fault == "cut":
            reply.body = reply.content
            reply.cut = len(reply.body) // 2
        return reply


def main() -> None:
    from tests.rerank_fakes import FAKES

    parser = argparse.ArgumentParser(description="Serve a fake rerank API until stdin closes.")
    parser.add_argument("provider", choices=sorted(FAKES))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer begins")
    parser.add_argument("--faults", type=float, default=0.0, help="share of the requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    app = Faults(FAKES[arguments.provider](), arguments.faults, latency=arguments.latency, seed=arguments.seed)
    gc.freeze()
    with serve(app, port=arguments.port, keep=False) as server:
        print(server.url, flush=True)
        sys.stdin.read()
        names = ("connections", "most_connections", "most_at_once")
        print(json.dumps({**{name: getattr(server, name) for name in names}, "faults": app.counts}), flush=True)


if __name__ == "__main__":
    main()
