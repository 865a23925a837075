"""One provider at one address: plans requests, reads answers, tries again. It opens no socket: `Wire` does what it says."""

from __future__ import annotations

import itertools
import logging
import math
import random
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import EndpointError, ScoreError
from langchain_rerankkit.hosted.addresses import origin
from langchain_rerankkit.hosted.answers import Heard, TooMuchError, dig, failed, parsed, scores_of, usage_of
from langchain_rerankkit.hosted.auth import Signer
from langchain_rerankkit.hosted.limits import Breaker, Pace
from langchain_rerankkit.hosted.profiles import Profile
from langchain_rerankkit.hosted.query import Asked, Spent
from langchain_rerankkit.hosted.redaction import Secrets
from langchain_rerankkit.hosted.templates import deep_merge

__all__ = ["Call", "Endpoint", "NoAnswerError", "Pause", "Steps"]

_LONGEST_WAIT = 60.0  # seconds that a server may ask to wait
_LONGEST_BACKOFF = 8.0  # seconds
_LONGEST_POLL = 300.0  # seconds that an answer may be on its way
_REFUSALS = 50  # most of one query's requests that are met by sending less
_SHORTEST = 200  # characters below which a refused document is not cut further
_PAGES = 1000
_LONGEST_TOKEN = 10_000  # characters of what stands for the next page
_DOWN = {500, 502, 503, 504}
_logger = logging.getLogger("langchain_rerankkit")


def _at_once() -> float:
    return 0.0


@dataclass(frozen=True)
class Call:
    """A request to send; `Wire` returns a `Heard` or raises `NoAnswerError`.

    Attributes:
        method: HTTP method.
        url: Where to.
        headers: All headers but those of the signer.
        content: Writes the body.
        deadline: When its answer is of no use any more, on the clock of `time.monotonic`.
        signer: Gives further headers.
        admit: Asked when its turn has come: says how many seconds to wait, or raises.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    content: Callable[[], bytes]
    deadline: float
    signer: Signer | None
    admit: Callable[[], float] = _at_once


@dataclass(frozen=True)
class Pause:
    """Time to let pass, in seconds."""

    seconds: float


class NoAnswerError(Exception):
    """A request without an answer.

    Args:
        message: What happened.
        retryable: Whether the same request may succeed later.
        down: Whether it says that the endpoint is not there.
    """

    def __init__(self, message: str, *, retryable: bool = True, down: bool = True) -> None:
        self.retryable = retryable
        self.down = down
        super().__init__(message)


Steps = Generator[Call | Pause, Any, Any]


class Endpoint:
    """What is the same for all queries.

    Args:
        profile: The provider.
        url: Where to send requests.
        values: Name of the model and params, as the provider wants them.
        headers: Headers of every request, with the key.
        key: The key, to keep it out of messages.
        signer: Signs requests.
        instruction: What relevance means.
        options: What else the body says.
        max_retries: Attempts after the first.
        backoff: Seconds before the second attempt, doubled for each other one.
        pace: Requests per minute.
        breaker: Whether the endpoint is down.
    """

    def __init__(
        self,
        profile: Profile,
        url: str,
        *,
        values: Mapping[str, str],
        headers: Mapping[str, str],
        key: str | None,
        signer: Signer | None,
        instruction: str | None,
        options: Mapping[str, Any],
        max_retries: int,
        backoff: float,
        pace: Pace,
        breaker: Breaker,
    ) -> None:
        self.profile, self.url, self._headers, self.key = profile, url, headers, key
        self._values, self._instruction, self._options, self._signer = values, instruction, options, signer
        self._max_retries, self._backoff, self._pace, self._breaker = max_retries, backoff, pace, breaker
        self._write = require("orjson", extra="hosted").dumps  # ten times as fast as json, which is felt here
        self._host = urlsplit(url).netloc
        self.taken: int | None = None  # documents that were taken at once where more had been refused
        self.name = f"{profile.called} ({self._host})"
        self.sends_top_n = not profile.places().isdisjoint({"top_n", "limit"})

    def limit(self, deadline: float) -> Steps:
        """How many documents the server says it takes in a request: 0 if it does not say, None if it did not answer."""
        probe = self.profile.probe
        if probe is None:
            return 0
        if self._breaker.closed_for():
            return None
        url = self.url.partition("?")[0].rsplit("/", 1)[0] + probe.path
        try:
            heard: Heard = yield Call("GET", url, self._headers, bytes, deadline, self._signer)
        except NoAnswerError:
            return None  # the request itself will say what is wrong
        if heard.status >= 500:  # noqa: PLR2004 - it is about to start, perhaps
            return None
        said = dig(parsed(heard), probe.field)
        return said if type(said) is int and said > 0 else 0

    def once(
        self, query: str, texts: list[str], top_n: int | None = None
    ) -> Generator[Call | Pause, Any, tuple[Heard, Any]]:
        """One request without another attempt: the answer, and its JSON.

        Raises:
            EndpointError: If there is none, or it is an error.
        """
        asked = Asked(query, texts, top_n, math.inf, Spent(), Secrets([self.key or ""], [query, *texts]))
        outcome = yield from self._attempt(asked, self._content(asked, texts, {}), len(texts))
        if isinstance(outcome, EndpointError):
            raise outcome
        heard, data = outcome
        return heard, data

    def judge(self, asked: Asked, positions: Sequence[int]) -> Steps:
        """Scores of some of a query's texts, by their position; none for those that a ``top_n`` leaves out.

        Where the server says that it is too much, the batch is sent in two parts, and a document that is too long alone
        is cut until it is taken: one document never fails the others, unless ``asked`` is to be judged whole.
        """
        return self._judge(asked, {position: asked.texts[position] for position in positions})

    def _judge(self, asked: Asked, shown: dict[int, str]) -> Steps:
        spent = asked.spent
        positions = list(shown)
        while True:
            try:
                answered = yield from self._ask(asked, list(shown.values()))
            except TooMuchError:
                if spent.refusals > _REFUSALS or (asked.whole and len(shown) == 1):
                    raise
            else:
                return {positions[place]: score for place, score in answered.items()}
            if len(shown) > 1:
                spent.too_many = min(len(shown), spent.too_many or len(shown))
            elif (length := len(shown[positions[0]])) <= _SHORTEST:
                return {}
            else:
                spent.fitting = min(length // 2, spent.fitting or length)
            fitting = spent.fitting
            if fitting is None or all(len(text) <= fitting for text in shown.values()):
                break
            spent.truncated |= {position for position, text in shown.items() if len(text) > fitting}
            shown = {position: text[:fitting] for position, text in shown.items()}
        scores: dict[int, float] = {}
        known = self.taken is not None and self.taken < len(shown)
        for part in _pieces(shown, self.taken or 1) if known else _halves(shown):
            scores |= yield from self._judge(asked, part)
            if len(part) < (spent.too_many or 0) and spent.truncated.isdisjoint(shown):
                self.taken = spent.taken = max(spent.taken, len(part))
        return scores

    def _content(self, asked: Asked, texts: list[str], more: dict[str, Any]) -> Callable[[], bytes]:
        def content() -> bytes:  # when it is its turn, and not while it waits among thousands
            body = self.profile.body(
                asked.query,
                texts,
                values=self._values,
                top_n=None if asked.top_n is None else min(asked.top_n, len(texts)),
                instruction=self._instruction,
            )
            written: bytes = self._write(deep_merge(body, self._options) | more)
            return written

        return content

    def _ask(self, asked: Asked, texts: list[str]) -> Steps:
        count, profile = len(texts), self.profile
        wanted = min(asked.top_n or count, count)
        more: dict[str, Any] = {}
        content = self._content(asked, texts, more)
        scores: dict[int, float] = {}
        for _ in range(_PAGES):
            data = yield from self._exchange(asked, content, count)
            page = scores_of(profile, data, count)
            if page.keys() & scores.keys():
                msg = f"{self.name} scored a document on two pages; no document was moved."
                raise ScoreError(msg)
            scores |= page
            token = dig(data, profile.next_page) if profile.next_page else None
            if not page or len(scores) >= count or not _is_token(token):
                break
            more[str(profile.next_page)] = token
        if len(scores) != count and not (self.sends_top_n and len(scores) == wanted):
            msg = f"{self.name} scored {len(scores)} of {count} documents; none was dropped."
            raise ScoreError(msg)
        return scores

    def _exchange(self, asked: Asked, content: Callable[[], bytes], count: int) -> Steps:
        """One request until its answer: paced, and tried again where that makes sense."""
        for attempt in itertools.count():
            outcome = yield from self._attempt(asked, content, count)
            if not isinstance(outcome, EndpointError):
                heard, data = outcome
                asked.spent.add(said=usage_of(self.profile, data, heard.headers))
                return data
            error = outcome
            wait = error.retry_after
            if wait is None:
                wait = min(_LONGEST_BACKOFF, self._backoff * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311
            if isinstance(error, TooMuchError):
                asked.spent.refusals += 1
                asked.spent.refusal = error
            if not error.retryable or attempt == self._max_retries or wait > _LONGEST_WAIT:
                raise error from None
            if time.monotonic() + wait > asked.deadline:
                raise error from None
            _logger.debug("%s: attempt %d failed (%s), again in %.2f s.", self.name, attempt + 1, error.status, wait)
            asked.spent.add(retries=1)
            yield Pause(wait)

    def _admit(self, asked: Asked, count: int) -> float:
        """Seconds until a request of so many documents may be sent; raises if it may not."""
        spent = asked.spent
        if spent.failed is not None:
            raise spent.failed
        if spent.refusal is not None and spent.fitting is None and count >= (spent.too_many or math.inf):
            raise spent.refusal  # as many were refused while this one waited
        name = self.profile.name
        down = self._breaker.closed_for()
        if down:
            msg = f"{self.name} is not asked again for {down:.1f} s, since it failed several times: {self._breaker.reason}"
            raise EndpointError(msg, provider=name, retry_after=down, retryable=True)
        now = time.monotonic()
        wait = self._pace.reserve(asked.deadline)
        if now + wait > asked.deadline:
            why = f" (requests_per_minute allows the next request in {wait:.1f} s)" if wait else ""
            msg = f"{self.name} was not asked before the deadline{why}."
            raise EndpointError(msg, provider=name, retry_after=wait or None, retryable=True)
        spent.add(requests=1)
        return wait

    def _attempt(self, asked: Asked, content: Callable[[], bytes], count: int) -> Steps:
        """What one request brings: an answer and its JSON, or an error."""
        signer = None if self._signer is None else partial(self._sign, asked.secrets)
        began = math.inf

        def admit() -> float:
            nonlocal began
            wait = self._admit(asked, count)
            began = time.monotonic() + wait
            return wait

        try:
            heard: Heard = yield Call("POST", self.url, self._headers, content, asked.deadline, signer, admit)
            if self.profile.poll is not None and heard.status == self.profile.poll.status:
                heard = yield from self._polled(heard, asked.deadline)
        except GeneratorExit:  # the event loop ended it
            if time.monotonic() - began > 0.9 * (asked.deadline - began):
                self._breaker.failed("it did not answer before the deadline.", began)
            raise
        except NoAnswerError as failure:
            reason = f"{asked.secrets.hide(str(failure))}."
            if failure.down:
                self._breaker.failed(reason, began)
            msg = f"{self.name} {reason}"
            return EndpointError(msg, provider=self.profile.name, retryable=failure.retryable)
        data = parsed(heard)
        error = failed(
            self.profile,
            heard,
            data,
            host=self._host,
            keyed=self.key is not None or self._signer is not None,
            secrets=asked.secrets,
        )
        if (
            error is None
            or heard.status not in _DOWN
            or error.retry_after is not None
            or isinstance(error, TooMuchError)
        ):
            self._breaker.alive()
        else:
            self._breaker.failed(f"it answered {heard.status}.", began)
        return (heard, data) if error is None else error

    def _sign(
        self, secrets: Secrets, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Mapping[str, str]:
        """What the signer adds, which no message may hold either."""
        added: Mapping[str, str] = {} if self._signer is None else self._signer(method, url, headers, body)
        secrets.add([word for name, value in added.items() for word in _confidential(name, value)])
        return added

    def _polled(self, heard: Heard, deadline: float) -> Steps:
        """The answer that comes later."""
        poll = self.profile.poll
        identifier = heard.headers.get(poll.header.lower(), "") if poll else ""
        if poll is None or not re.fullmatch(r"[\w-]{1,100}", identifier):
            msg = f"answered {heard.status} without saying where its answer will be"
            raise NoAnswerError(msg, retryable=False, down=False)
        parts = urlsplit(poll.url.replace("{id}", identifier))
        # The key goes to the provider's other host only if it came from this provider's own one.
        own = parts.netloc and self.profile.url and origin(self.profile.url) == origin(self.url)
        target = parts.geturl() if own else f"{urlsplit(self.url).scheme}://{self._host}{parts.path}"
        pause, deadline = 0.2, min(deadline, time.monotonic() + _LONGEST_POLL)
        while heard.status == poll.status:
            if time.monotonic() + pause > deadline:
                msg = "had not finished before the deadline"
                raise NoAnswerError(msg, down=False)
            yield Pause(pause)
            pause = min(2.0, pause * 1.5)
            heard = yield Call("GET", target, self._headers, bytes, deadline, self._signer)
        return heard


def _confidential(name: str, value: str) -> list[str]:
    """What is secret in a header of a signer: tokens and signatures, and not what is signed, when and by which algorithm."""
    words = value.replace(",", " ").split()
    if name.lower() == "authorization":
        return [
            word.removeprefix("Signature=")
            for word in words[1:]
            if not word.startswith(("Credential=", "SignedHeaders="))
        ]
    return words if "token" in name.lower() or "key" in name.lower() else []


def _is_token(said: Any) -> bool:
    return isinstance(said, str) and said.isascii() and 0 < len(said) < _LONGEST_TOKEN


def _pieces(shown: Mapping[int, str], size: int) -> list[dict[int, str]]:
    items = list(shown.items())
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]


def _halves(shown: Mapping[int, str]) -> list[dict[int, str]]:
    """Two parts of about as many characters, the long documents in one: what is too long is soon alone."""
    ordered = sorted(shown, key=lambda position: len(shown[position]), reverse=True)
    half, taken, count = sum(map(len, shown.values())) / 2, 0, 0
    while count < len(ordered) - 1 and (not count or taken + len(shown[ordered[count]]) <= half):
        taken += len(shown[ordered[count]])
        count += 1
    return [{position: shown[position] for position in sorted(part)} for part in (ordered[:count], ordered[count:])]
