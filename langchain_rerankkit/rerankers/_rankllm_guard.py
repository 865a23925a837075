"""What keeps rank_llm's habits to itself: printing, root logging, module globals, calls that never return."""

from __future__ import annotations

import builtins
import copy
import ctypes
import functools
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import MissingExtraError, ModelNotFoundError

__all__ = ["MAX_ABANDONED", "ChatCalls", "Coordinator", "import_rank_llm", "kept_openai_globals", "quiet"]

MAX_ABANDONED = 4
"""Calls of this process that may outlive their deadline before new ones are refused."""

_OPENAI_GLOBALS = ("api_base", "api_key", "api_type", "api_version", "base_url", "proxy")

_MAX_SHORTENINGS = 500  # each takes a quarter of what is too much, so that a dozen do

_abandoned: list[_Call] = []
_lock = threading.Lock()
_openai_globals = threading.Lock()
_quiet: ContextVar[bool] = ContextVar("rankllm_quiet", default=False)


# --- importing and printing --------------------------------------------------------------------------------------------


def import_rank_llm(module: str) -> Any:
    """Import one of rank_llm's modules and leave the root logger as it was.

    Raises:
        MissingExtraError: If it cannot be imported, with the real reason and the way out. The concrete module has to be
            asked for: packages of rank_llm swallow import errors and export None.
    """
    require("rank_llm", extra="rankllm")
    # rank_llm calls logging.basicConfig, which does nothing where the root logger has a handler.
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        return require(module, extra="rankllm")
    except MissingExtraError as error:
        raise MissingExtraError(module, "rankllm", _way_out(error)) from error
    finally:
        root.removeHandler(handler)
        _mute_modules()


def _way_out(error: MissingExtraError) -> str:
    cause = error.__cause__
    missing = (cause.name or "").partition(".")[0] if isinstance(cause, ImportError) else ""
    if missing == "vllm":
        return (
            f"{error.reason}: the rank-llm on PyPI imports vllm whatever the model. Install vllm on a machine with CUDA, "
            "or rank-llm's newer release from github.com/castorini/rank_llm, which needs it for local LLMs alone; for "
            "any chat model, ListwiseReranker does without both"
        )
    if missing == "transformers":
        return f"{error.reason}: the rank-llm on PyPI needs transformers older than 4.56"
    return error.reason


def _mute_modules() -> None:
    """Give rank_llm's modules a ``print`` and a ``tqdm`` that are silent in our calls, and theirs in all others.

    Redirecting ``sys.stdout`` instead would take the output of every other thread with it.
    """
    with _lock:
        for name, module in sys.modules.copy().items():  # another thread may import meanwhile
            if not name.startswith("rank_llm.rerank.") or module is None:
                continue
            for called in ("print", "tqdm"):
                original = vars(module).get(called, getattr(builtins, called, None))
                if original is not None and not isinstance(original, functools.partial):
                    setattr(module, called, functools.partial(_unless_quiet, original))


def _unless_quiet(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not _quiet.get():
        return original(*args, **kwargs)
    return None if original is builtins.print else original(*args, **{**kwargs, "disable": True})


@contextmanager
def quiet() -> Iterator[None]:
    """Let rank_llm print nothing and draw no bars in this thread."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


# --- calls that end ----------------------------------------------------------------------------------------------------


class _Call(threading.Thread):
    """A call on a thread of its own, which therefore has no running event loop and can be left behind."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(name="rerankkit-rankllm", daemon=True)
        self._work = work
        self._outcome: Future[Any] = Future()
        self._ending = threading.Lock()
        self._over = False
        self.abandoned = False

    def run(self) -> None:
        try:
            with quiet():
                self._outcome.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self._outcome.set_exception(error)
        finally:
            with self._ending:
                self._over = True

    def result(self, timeout: float) -> Any:
        if wait([self._outcome], timeout).done:
            return self._outcome.result()
        with _lock:
            _abandoned.append(self)
        self.abandoned = True
        self.end()
        msg = (
            f"rank_llm did not answer within {timeout:g} seconds. It retries some errors for ever: check the key, the "
            "address and the model; or raise timeout."
        )
        raise TimeoutError(msg)

    def end(self) -> None:
        """Ask the thread to end: SystemExit passes the ``except Exception`` of rank_llm's endless retries.

        It arrives at the next line of Python, so a call that hangs in C stays, and counts as abandoned.
        """
        with self._ending:  # while this is held the thread cannot end, and its number names no other
            if not self._over:
                ident, kind = ctypes.c_ulong(self.ident or 0), ctypes.py_object(SystemExit)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, kind)


def _refuse_past_limit() -> None:
    with _lock:
        _abandoned[:] = [call for call in _abandoned if call.is_alive()]
        for call in _abandoned:
            call.end()  # once more: a bare except may have swallowed the first
        count = len(_abandoned)
    if count >= MAX_ABANDONED:
        msg = (
            f"{count} calls of rank_llm are still running long after their deadline and cannot be ended; no more are "
            "started. Restart the process, and see why they hang."
        )
        raise RuntimeError(msg)


class Coordinator:
    """A coordinator of rank_llm, asked by one call at a time and within a deadline.

    Args:
        inner: Anything with ``rerank_batch``.
        chat: How a ``SafeOpenai`` asks its model; every call then has a copy of the coordinator, and none waits.
    """

    def __init__(self, inner: Any, chat: ChatCalls | None = None) -> None:
        self._inner = inner
        self._chat = chat
        self._turn = threading.Lock()
        self._last: _Call | None = None

    @property
    def inner(self) -> Any:
        """The coordinator itself."""
        return self._inner

    def rank(self, request: Any, count: int, timeout: float) -> Any:
        """Rank one request of rank_llm.

        Args:
            request: A ``rank_llm.data.Request``.
            count: Its number of candidates.
            timeout: Seconds for the whole of it.

        Returns:
            What ``rerank_batch`` returned: a list with one result or, from some classes, the result.

        Raises:
            TimeoutError: If there is no answer in time.
            RuntimeError: If too many calls, or the one before this, hang past their deadline.
        """
        deadline = time.monotonic() + timeout
        _refuse_past_limit()
        if self._chat is not None:
            inner = self._chat.bound(self._inner, deadline)
            call = _Call(lambda: _rerank(inner, request, count))
            call.start()
            return call.result(timeout)
        if self._last is not None and self._last.abandoned and self._last.is_alive():
            msg = "This coordinator of rank_llm is still busy with a call that ran past its deadline."
            raise RuntimeError(msg)
        if not self._turn.acquire(timeout=timeout):
            msg = f"The coordinator of rank_llm, which ranks one list at a time, was busy for {timeout:g} seconds."
            raise TimeoutError(msg)
        call = _Call(lambda: self._in_turn(request, count))
        self._last = call
        try:
            call.start()
        except BaseException:
            self._turn.release()
            raise
        return call.result(max(deadline - time.monotonic(), 0.0))

    def _in_turn(self, request: Any, count: int) -> Any:
        try:
            return _rerank(self._inner, request, count)
        finally:
            self._turn.release()


def _rerank(inner: Any, request: Any, count: int) -> Any:
    # top_k_retrieve also cuts the window to the list: without it, exactly window - stride candidates (ten by default)
    # make no call at all, since rank_llm's loop takes them for already done.
    return inner.rerank_batch(
        [request], rank_start=0, rank_end=count, top_k_retrieve=count, populate_invocations_history=True
    )


# --- OpenAI's client ---------------------------------------------------------------------------------------------------


@contextmanager
def kept_openai_globals() -> Iterator[None]:
    """Restore the globals of the ``openai`` module, which the constructor of ``SafeOpenai`` overwrites."""
    openai = require("openai", extra="rankllm")
    with _openai_globals:
        before = {name: vars(openai)[name] for name in _OPENAI_GLOBALS if name in vars(openai)}
        try:
            yield
        finally:
            for name in _OPENAI_GLOBALS:
                if name in before:
                    setattr(openai, name, before[name])
                else:
                    vars(openai).pop(name, None)


class ChatCalls:
    """Asks the model in place of ``SafeOpenai``, whose own calls use module globals and retry every error for ever.

    Args:
        keys: API keys; the next is tried where the server refuses one.
        base_url: The server; OpenAI's by default.
        responses: Whether to use the Responses API, as rank_llm's newer layout does, instead of chat completions.
        azure: ``azure_endpoint`` and ``api_version`` of Azure.
    """

    def __init__(
        self, keys: Sequence[str], base_url: str | None, *, responses: bool, azure: dict[str, str] | None = None
    ) -> None:
        self._openai = require("openai", extra="rankllm")
        self._keys = list(keys)
        self._responses = responses
        self._settings: dict[str, Any] = {"temperature": 0}
        if azure:
            self._clients = [self._openai.AzureOpenAI(api_key=key, **azure) for key in keys]
        else:
            self._clients = [self._openai.OpenAI(api_key=key, base_url=base_url) for key in keys]
        weakref.finalize(self, _close, self._clients)

    def bound(self, coordinator: Any, deadline: float) -> Any:
        """A copy of a ``SafeOpenai`` that asks through this, for one call."""

        def run_llm(prompt: Any, current_window_size: int | None = None, **_: Any) -> tuple[str, int]:  # noqa: ARG001
            return self._ask(coordinator, prompt, deadline)

        def create_prompt(*args: Any, **kwargs: Any) -> Any:
            _check_encoding()
            mine.get_num_tokens = _limited(coordinator.get_num_tokens)
            return type(coordinator).create_prompt(mine, *args, **kwargs)

        mine = copy.copy(coordinator)
        mine.run_llm, mine.create_prompt = run_llm, create_prompt
        return mine

    def _ask(self, coordinator: Any, prompt: Any, deadline: float) -> tuple[str, int]:
        for position, client in enumerate(self._clients, start=1):
            try:
                return self._ask_one(client, coordinator, prompt, deadline)
            except self._openai.APIError as error:
                refused = isinstance(error, (self._openai.AuthenticationError, self._openai.RateLimitError))
                if refused and position < len(self._clients):
                    continue
                if any(key in str(error) for key in self._keys):
                    msg = f"The server refused ({type(error).__name__}); what it said held the API key and is left out."
                    raise RuntimeError(msg) from None
                raise
        msg = "SafeOpenai has no API key."
        raise ValueError(msg)

    def _ask_one(self, client: Any, coordinator: Any, prompt: Any, deadline: float) -> tuple[str, int]:
        asked = {"model": coordinator._model, "timeout": max(deadline - time.monotonic(), 0.001)}
        if self._responses:
            effort = getattr(coordinator, "_reasoning_effort", None)
            thinking = {"reasoning": {"effort": effort}} if effort else {}
            answer = client.responses.create(input=prompt, **asked, **thinking)
            return answer.output_text or "", _tokens(answer.usage, "output_tokens")
        try:
            answer = client.chat.completions.create(messages=prompt, **asked, **self._settings)
        except self._openai.BadRequestError as error:
            if not self._settings or "temperature" not in str(error):
                raise
            self._settings = {}  # reasoning models take none
            return self._ask_one(client, coordinator, prompt, deadline)
        return answer.choices[0].message.content or "", _tokens(answer.usage, "completion_tokens")


def _close(clients: Sequence[Any]) -> None:
    for client in clients:
        client.close()


def _tokens(usage: Any, name: str) -> int:
    return int(getattr(usage, name, 0) or 0)


def _check_encoding() -> None:
    """rank_llm counts tokens with an encoding that tiktoken downloads at its first use."""
    tiktoken = require("tiktoken", extra="rankllm")
    try:
        tiktoken.get_encoding("cl100k_base")
    except Exception as error:
        msg = (
            f"rank_llm counts tokens with tiktoken's cl100k_base, which could not be downloaded ({type(error).__name__}). "
            "Set TIKTOKEN_CACHE_DIR to a folder that holds it: copy the folder from a machine with a network."
        )
        raise ModelNotFoundError(msg, missing=["cl100k_base.tiktoken"]) from error


def _limited(count: Callable[[Any], int]) -> Callable[[Any], int]:
    """Count tokens, but not for ever: rank_llm shortens passages until they fit, and goes on when they are empty."""
    left = iter(range(_MAX_SHORTENINGS))

    def limited(prompt: Any) -> int:
        if next(left, None) is None:
            msg = "Not even empty passages fit into context_size: raise it, or take a smaller window_size."
            raise ValueError(msg)
        return count(prompt)

    return limited
