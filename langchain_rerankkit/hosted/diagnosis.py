"""What an endpoint does with a few small requests: how it orders, whether its scores are logits, what it takes at once."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_rerankkit.errors import EndpointError
from langchain_rerankkit.hosted.answers import dig, scores_of, usage_of
from langchain_rerankkit.hosted.endpoint import Call, Endpoint, Pause
from langchain_rerankkit.hosted.redaction import Secrets

__all__ = ["Diagnosis", "diagnosis"]

_QUERY = "What is the capital of France?"
_TEXTS = ["Bananas are yellow.", "Paris is the capital of France.", "France lies in Europe.", "It rains."]
_SAME = 1e-3  # scores of one text in two requests: half precision differs by less
_KnownFrom = Literal["the server says", "tried", "at least; no more were tried", "not asked: from the profile"]
_SIZES = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Diagnosis:
    """What was found. As a text it is a line for each.

    Attributes:
        url: Where requests went.
        seconds: How long the first and a later one took.
        keys: Keys of the answer, and of one of its results.
        scores: Scores of the four test documents, in the order they were sent.
        logits_expected: Whether they are taken for logits with ``activation="auto"``.
        order: How results are ordered.
        sensible: Whether the document that answers the query is the best.
        top_n: What happens to a ``top_n``.
        pointwise: Whether a document has the same score alone as beside others.
        limit: Documents that it takes at once.
        limit_is: Where that is known from: the server, trying (at least so many, if none were refused), or the profile.
        usage: What an answer says of its cost.
    """

    url: str
    seconds: tuple[float, float]
    keys: tuple[Sequence[str], Sequence[str]]
    scores: Sequence[float]
    logits_expected: bool
    order: Literal["best first", "as sent", "another"]
    sensible: bool
    top_n: Literal["honoured", "ignored", "not in this dialect"]
    pointwise: bool
    limit: int
    limit_is: _KnownFrom
    usage: dict[str, float]

    @property
    def logits(self) -> bool:
        """Whether a score is below 0 or above 1."""
        return not all(0 <= score <= 1 for score in self.scores)

    def __str__(self) -> str:
        kind = "logits" if self.logits else "between 0 and 1"
        if self.logits != self.logits_expected:
            kind += f", set activation='{'sigmoid' if self.logits else 'identity'}'"
        alone = "the same alone as beside others" if self.pointwise else "not the same alone as beside others: listwise"
        sensible = (
            "the answer is first" if self.sensible else "the answer is NOT first: is it a reranker, with its template?"
        )
        lines = {
            "endpoint": self.url,
            "answers": f"in {self.seconds[0] * 1e3:.0f} ms at first, then {self.seconds[1] * 1e3:.0f} ms",
            "keys": f"{', '.join(self.keys[0]) or 'a list'}; of a result: {', '.join(self.keys[1]) or 'a number'}",
            "scores": f"{', '.join(f'{score:.4g}' for score in self.scores)}: {kind}",
            "order": f"{self.order}; {sensible}",
            "a score is": alone,
            "top_n": self.top_n,
            "limit": f"{self.limit} documents at once ({self.limit_is})",
            "usage": ", ".join(f"{name} {value:g}" for name, value in self.usage.items()) or "not said",
        }
        return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def diagnosis(endpoint: Endpoint, *, limits: bool) -> Generator[Call | Pause, Any, Diagnosis]:
    """Ask an endpoint a few small things, in three or four requests.

    Args:
        endpoint: The endpoint.
        limits: Whether to send more and more documents, up to 1024 short ones, until they are too many.

    Raises:
        EndpointError: If it does not answer, or refuses.
        ScoreError: If its answer is no ranking.
    """
    start = time.perf_counter()
    heard, data = yield from endpoint.once(_QUERY, _TEXTS)
    first = time.perf_counter() - start
    profile = endpoint.profile
    scores = scores_of(profile, data, len(_TEXTS))
    if len(scores) != len(_TEXTS):
        msg = f"{endpoint.name} scored {len(scores)} of {len(_TEXTS)} documents."
        raise EndpointError(msg, provider=profile.name)
    start = time.perf_counter()
    _, alone = yield from endpoint.once(_QUERY, _TEXTS[:1])
    later = time.perf_counter() - start
    places = list(scores)  # in the order of the answer
    sent, best = list(range(len(_TEXTS))), sorted(scores, key=lambda place: -scores[place])
    results = dig(data, profile.results)
    limit, limit_is = yield from _limit(endpoint, limits=limits)
    return Diagnosis(
        url=endpoint.url,
        seconds=(first, later),
        keys=(_keys(endpoint, data), _keys(endpoint, results[0])),
        scores=[scores[place] for place in sent],
        logits_expected=profile.scores == "logit",
        order="best first" if places == best else "as sent" if places == sent else "another",
        sensible=best[0] == 1,
        top_n=(yield from _top_n(endpoint)),
        pointwise=abs(scores_of(profile, alone, 1).get(0, float("nan")) - scores[0]) < _SAME * max(1, abs(scores[0])),
        limit=limit,
        limit_is=limit_is,
        usage=usage_of(profile, data, heard.headers),
    )


def _keys(endpoint: Endpoint, data: Any) -> list[str]:
    secrets = Secrets([endpoint.key or ""], [])
    return [secrets.hide(name[:80]) for name in sorted(data)[:40]] if isinstance(data, dict) else []


def _top_n(endpoint: Endpoint) -> Generator[Call | Pause, Any, Literal["honoured", "ignored", "not in this dialect"]]:
    if not endpoint.sends_top_n:
        return "not in this dialect"
    _, data = yield from endpoint.once(_QUERY, _TEXTS, top_n=1)
    return "honoured" if len(scores_of(endpoint.profile, data, len(_TEXTS))) == 1 else "ignored"


def _limit(endpoint: Endpoint, *, limits: bool) -> Generator[Call | Pause, Any, tuple[int, _KnownFrom]]:
    """How many documents are taken at once, and where that is known from."""
    said = yield from endpoint.limit(math.inf)
    if said:
        return said, "the server says"
    if not limits:
        return endpoint.profile.max_documents, "not asked: from the profile"
    taken = len(_TEXTS)
    for size in _SIZES:
        try:
            yield from endpoint.once(_QUERY, [f"{_TEXTS[place % 4]} {place}" for place in range(size)])
        except EndpointError as error:
            if error.status is None or error.retryable:
                raise
            return taken, "tried"
        taken = size
    return taken, "at least; no more were tried"
