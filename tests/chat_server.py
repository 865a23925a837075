"""A server on the loopback interface that speaks OpenAI's chat completions and responses, and misbehaves on request."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server says to one request.

    Attributes:
        text: The model's answer; None is JSON's null.
        status: HTTP status; from 400 on, the body is OpenAI's error object.
        headers: More headers, such as ``Retry-After``.
        wait: Seconds before anything is sent.
        cut: Send only this many bytes of the body, then close the connection.
        body: The whole body instead of a well-formed one.
        tool: Arguments of a tool call, as the JSON text that the model wrote.
        logprobs: For the first token of the answer: log-probability by token.
        usage: Prompt and completion tokens; None leaves usage out.
    """

    text: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: int | None = None
    body: bytes | None = None
    tool: str | None = None
    logprobs: dict[str, float] | None = None
    usage: tuple[int, int] | None = (100, 10)


@dataclass
class Server:
    """A running server.

    Attributes:
        url: To give as ``base_url``; ends with ``/v1``.
        requests: Paths and JSON bodies seen, in order.
        headers: Headers seen, in order.
        most_at_once: Most requests that were being answered at the same time.
    """

    url: str
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def chat_server(answer: Callable[[dict[str, Any]], Reply | str] | list[Reply | str]):  # noqa: C901 - one place
    """Serve until the block ends.

    Args:
        answer: From the request's JSON to a reply, or the replies in order, the last for all that follow.
    """
    lock, open_now = threading.Lock(), [0]
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two packets

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.requests)
                server.requests.append((self.path, request))
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                open_now[0] += 1
                server.most_at_once = max(server.most_at_once, open_now[0])
            try:
                said = answer(request) if callable(answer) else answer[min(number, len(answer) - 1)]
                reply = Reply(said) if isinstance(said, str) else said
                closing.wait(reply.wait) if reply.wait else None
                with lock:
                    open_now[0] -= 1
                self.send(reply, request)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def send(self, reply: Reply, request: dict[str, Any]) -> None:
            kind = "application/json"
            if reply.body is not None:
                body = reply.body
            elif reply.status >= 400:
                body = json.dumps({"error": {"message": f"failed with {reply.status}", "type": "test", "code": None}})
            elif self.path.endswith("/responses"):
                body = json.dumps(_response(reply, request))
            elif request.get("stream"):
                body, kind = _stream(reply, request), "text/event-stream"
            else:
                body = json.dumps(_completion(reply, request))
            body = body.encode() if isinstance(body, str) else body
            self.send_response(reply.status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass  # clients that gave up

    http = Quiet(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


def rankgpt_identifiers(request: dict[str, Any]) -> list[str]:
    """Identifiers of the passages in a listwise prompt, in the order they are shown."""
    messages = request.get("messages") or request.get("input")
    texts = [m["content"] if isinstance(m["content"], str) else m["content"][0]["text"] for m in messages]
    found = re.findall(r"^\[(\w+)\]", "\n".join(texts), flags=re.MULTILINE)
    return list(dict.fromkeys(found))


def reverse_order(request: dict[str, Any]) -> str:
    """A judge that turns every window around."""
    return " > ".join(f"[{identifier}]" for identifier in reversed(rankgpt_identifiers(request)))


def _usage(reply: Reply) -> dict[str, int] | None:
    if reply.usage is None:
        return None
    prompt, completion = reply.usage
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _completion(reply: Reply, request: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool is not None:
        name = request["tools"][0]["function"]["name"] if request.get("tools") else "none"
        message["tool_calls"] = [
            {"id": "call_1", "type": "function", "function": {"name": name, "arguments": reply.tool}}
        ]
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    if reply.logprobs is not None:
        top = [{"token": token, "logprob": value, "bytes": None} for token, value in reply.logprobs.items()]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}], "refusal": None}
    completion: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [choice],
    }
    if reply.usage is not None:
        completion["usage"] = _usage(reply)
    return completion


def _stream(reply: Reply, request: dict[str, Any]) -> str:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": request["model"]}
    text = reply.text or ""
    pieces = [text[start : start + 4] for start in range(0, len(text), 4)]
    chunks = [{**base, "choices": [{"index": 0, "delta": {"content": p}, "finish_reason": None}]} for p in pieces]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if reply.usage is not None:
        chunks.append({**base, "choices": [], "usage": _usage(reply)})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def _response(reply: Reply, request: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = reply.usage or (0, 0)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": request["model"],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "top_p": None,
        "tool_choice": "auto",
        "tools": [],
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": reply.text or "", "annotations": []}],
            }
        ],
        "usage": {
            "input_tokens": prompt,
            "output_tokens": completion,
            "total_tokens": prompt + completion,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
