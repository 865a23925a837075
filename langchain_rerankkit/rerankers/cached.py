"""A reranker that is asked once about a query and a text."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any, Literal, NamedTuple

from langchain_core.runnables import RunnableConfig
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker, _on_thread
from langchain_rerankkit.model_id import Identity, option_names, parts, unidentified
from langchain_rerankkit.records import Answer, DetailedScores, Judged, RerankInput, ScoreRequest, Status
from langchain_rerankkit.rerankers.combining import as_input, check_member, spent
from langchain_rerankkit.score_cache import KeptScore, MemoryScores, SQLiteScores

__all__ = ["CacheInfo", "CachedReranker"]

_KEPT = ("truncated", "chunks", "best_span")  # numbers that are said of a document; texts are never kept


class CacheInfo(NamedTuple):
    """How a cache does: the names of `functools.lru_cache` where there is the same.

    Attributes:
        hits: Documents whose member was not asked, since this object was made.
        misses: Documents whose member was.
        maxsize: Most scores that are kept.
        currsize: Scores that are kept.
    """

    hits: int
    misses: int
    maxsize: int
    currsize: int

    @property
    def hit_rate(self) -> float:
        """Share of the hits, from 0 to 1; 0 where nothing was asked yet."""
        return self.hits / (self.hits + self.misses) if self.hits else 0.0


class CachedReranker(Reranker):
    """Keeps the scores of a reranker, in memory or in a file, and asks it only about new pairs of query and text.

    Example::

        reranker = CachedReranker(CrossEncoderReranker(model=…), top_n=5)
        reranker = CachedReranker(CohereReranker(model=…), path="scores.sqlite", ttl=7 * 24 * 3600)

    A score is found by a SHA-256 of the query, the text that the model reads, a call's own ``instruction``, and all
    that tells the model from another: its settings, the version of this package, the files of a local model (their
    sizes and times), the commit of one from the hub. Whatever changes, the score is computed anew. Only scores of
    judged documents are kept, never errors. In a batch equal pairs are asked about once; calls at the same time may ask
    twice.

    Rerankers whose scores depend on the other candidates are refused: listwise ones, ensembles, cascades, word
    statistics of the candidates.

    The file (SQLite, with a write-ahead log) serves any number of threads and processes of one machine; not over a
    network file system. It holds hashes, scores and a few numbers, and no text, but who has it can find out whether a
    query and a text that they know were asked about. Where it cannot be read or written, scores are computed, with a
    warning.

    ``metadata["rerank"]`` says ``cached`` of documents that the member was not asked about; ``usage`` counts them under
    ``cached`` and the others under ``documents``, beside what those cost; `cache_info` has the hit rate.
    """

    reranker: Reranker
    """The member. ``top_n``, ``min_score``, ``on_error`` and ``document_text`` belong on the whole."""

    path: str | None = None
    """The file; without it scores are kept in memory, by each object for itself, until `close`."""

    max_entries: int = Field(default=100_000, ge=1)
    """Most scores that are kept: about 40 MB in memory, 15 MB in a file. The least recently used go first."""

    ttl: float | None = Field(default=None, gt=0)
    """Seconds for which a score is good; for ever by default. Give it to models that change under the same name, as
    those of endpoints may."""

    identity: str | None = None
    """A name for the member, such as ``"my-model-v1"``, to be changed whenever its scores change. Needed for a file
    where nobody else can tell: for functions, ready clients, and classes of your own."""

    def __init__(self, reranker: Reranker | None = None, **fields: Any) -> None:
        """Make it of its member and of the other fields."""
        fields["reranker"] = reranker
        super().__init__(**fields)

    @field_validator("path", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @model_validator(mode="after")
    def _check_member(self) -> Self:
        check_member(self, self.reranker)
        if not self.reranker.judges_alone:
            msg = (
                f"The scores of {type(self.reranker).__name__} depend on the other candidates and cannot be kept. Cache its "
                "members instead, where it has some; where it counts words, give it those of the collection: "
                "statistics=bm25_retriever.statistics(), or TermStatistics.from_texts(…)."
            )
            raise ValueError(msg)
        if any(isinstance(part, CachedReranker) for part in parts(self.reranker)):
            msg = "The member is cached already: once is enough."
            raise ValueError(msg)
        if any(part.document_text is not None for part in parts(self.reranker)):
            msg = "Set document_text on the CachedReranker, which must know what the model reads, not on its member."
            raise ValueError(msg)
        self._check_identity()
        return self

    def _check_identity(self) -> None:
        if self.path is not None and self.identity is None and (unknown := unidentified(self.reranker)):
            msg = (
                f'Another process cannot tell what {" and ".join(unknown)} does. Name it with identity="my-model-v1", and '
                "change that name whenever its scores change; or leave path out to keep scores in memory."
            )
            raise ValueError(msg)

    # --- what its member is ---------------------------------------------------------------------------------------

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return self.reranker.scores_are

    @property
    @override
    def judges_alone(self) -> bool:
        return self.reranker.judges_alone

    @property
    def call_options(self) -> frozenset[str]:  # type: ignore[override]
        """Also those of its member."""
        return Reranker.call_options | self.reranker.call_options

    @override
    def _with(self, options: Mapping[str, Any]) -> Self:
        own = {name: value for name, value in options.items() if name not in self.call_options - Reranker.call_options}
        theirs = {name: value for name, value in options.items() if name not in own}
        changed = super()._with(own)
        return changed.model_copy(update={"reranker": self.reranker._with(theirs)}) if theirs else changed

    @override
    def _activate(self, raw_score: float) -> float:
        return self.reranker._activate(raw_score)

    @override
    def _label(self) -> str:
        return self.reranker._label()

    @override
    def warmup(self) -> Self:
        self.reranker.warmup()
        return super().warmup()

    @override
    def close(self) -> None:
        kept: _Kept | None = self._once.peek()
        self.reranker.close()
        super().close()
        if kept is not None:
            kept.scores.close()

    # --- the cache ------------------------------------------------------------------------------------------------

    @override
    def _load(self) -> _Kept:
        if self.path is None:
            return _Kept(MemoryScores(self.max_entries, self.ttl))
        return _Kept(SQLiteScores(self.path, self.max_entries, self.ttl))

    def cache_info(self) -> CacheInfo:
        """Hits and misses since this object was made, and how full the cache is."""
        kept: _Kept = self._ready()
        return CacheInfo(kept.hits, kept.misses, self.max_entries, len(kept.scores))

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        asked = self._look_up(requests)
        return self._answers(asked, self.reranker._judge_many(asked.inputs, asked.configs) if asked.inputs else [])

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        kept: _Kept = self._ready()
        waits = self.path is not None or not kept.member.is_settled(self.reranker)  # for a file, or for a model
        asked = await _on_thread(self._look_up, requests) if waits else self._look_up(requests)
        judged = await self.reranker._ajudge_many(asked.inputs, asked.configs) if asked.inputs else []
        return await _on_thread(self._answers, asked, judged) if waits else self._answers(asked, judged)

    def _look_up(self, requests: Sequence[ScoreRequest]) -> _Asked:
        """What is known, and what to ask the member."""
        kept: _Kept = self._ready()
        self._check_identity()  # again, for the member may have been given another client or function meanwhile
        asked = self._split(kept, requests)
        if asked.inputs and not kept.member.is_settled(self.reranker) and kept.member.settle(self.reranker):
            asked = self._split(kept, requests)
        kept.count(sum(map(len, asked.keys)), sum(map(len, asked.places)))
        return asked

    def _split(self, kept: _Kept, requests: Sequence[ScoreRequest]) -> _Asked:
        keys = [self._keys(kept, request) for request in requests]
        asked = _Asked(keys, kept.scores.get(list(dict.fromkeys(chain(*keys)))))
        new: set[bytes] = set()
        for request, of_request in zip(requests, keys, strict=True):
            places = []
            for place, key in enumerate(of_request):
                if key not in asked.known and key not in new:
                    new.add(key)
                    places.append(place)
            asked.places.append(places)
            if places:
                documents = as_input(request)["documents"]
                asked.inputs.append({"query": request.query, "documents": [documents[place] for place in places]})
                asked.configs.append(request.config)
        return asked

    def _keys(self, kept: _Kept, request: ScoreRequest) -> list[bytes]:
        """Of each text: a hash of all that its score depends on."""
        options = [(name, getattr(self.reranker, name)) for name in option_names(self.reranker)]
        member, changes = kept.member.of(self.reranker)
        changed = repr(changes) if self.path is None else ""  # which means nothing to other processes
        start = sha256()
        for part in (repr(self.identity), member, changed, repr(options), request.query):
            said = part.encode("utf-8", "surrogatepass")
            start.update(len(said).to_bytes(8, "big") + said)
        keys = []
        for text in request.texts:
            of_text = start.copy()
            of_text.update(text.encode())
            keys.append(of_text.digest())
        return keys

    def _answers(self, asked: _Asked, judged: Sequence[Judged | Exception]) -> list[Answer | Exception]:
        """Put what the member said to what is known, and keep it."""
        kept: _Kept = self._ready()
        said: dict[bytes, _Said | Exception] = {key: _Said("ok", *known) for key, known in asked.known.items()}
        new: dict[bytes, KeptScore] = {}
        usages: list[Mapping[str, Any]] = []
        outcomes = iter(judged)
        for keys, places in zip(asked.keys, asked.places, strict=True):
            outcome = next(outcomes) if places else None
            usages.append(spent([outcome]) if isinstance(outcome, Judged) else {})
            for number, place in enumerate(places):
                if isinstance(outcome, Exception):
                    said[keys[place]] = outcome
                elif outcome is not None:
                    details = outcome.details[number] if outcome.details else {}
                    score = outcome.raw_scores[number]
                    said[keys[place]] = _Said(outcome.statuses[number], score, details)
                    if outcome.statuses[number] == "ok":
                        plain = {name: details[name] for name in _KEPT if _is_plain(details.get(name))}
                        new[keys[place]] = KeptScore(score, plain)
        if new:
            kept.scores.put(new)
        return [
            _answer([said[key] for key in keys], set(places), usage)
            for keys, places, usage in zip(asked.keys, asked.places, usages, strict=True)
        ]


@dataclass
class _Asked:
    """What is known of several requests, and what to ask of the others: of each request, the places of its texts."""

    keys: list[list[bytes]]
    known: dict[bytes, KeptScore]
    places: list[list[int]] = field(default_factory=list)
    inputs: list[RerankInput] = field(default_factory=list)
    configs: list[RunnableConfig | None] = field(default_factory=list)


class _Said(NamedTuple):
    """What there is to say of a pair."""

    status: Status
    score: float
    details: Mapping[str, Any]


class _Kept:
    """The cache of one object, who its member is, and how often it was not asked."""

    def __init__(self, scores: MemoryScores | SQLiteScores) -> None:
        self.scores = scores
        self.member = Identity()
        self.hits = self.misses = 0
        self._lock = threading.Lock()

    def count(self, documents: int, misses: int) -> None:
        """Count documents, and those of them that the member is asked about."""
        with self._lock:
            self.hits += documents - misses
            self.misses += misses


def _answer(said: Sequence[_Said | Exception], asked: set[int], usage: Mapping[str, Any]) -> Answer | Exception:
    """Of one request: what is said of its texts, which of them the member was asked about, and what that cost."""
    usage = {"documents": len(asked), **usage, "cached": usage.get("cached", 0) + len(said) - len(asked)}
    scores, details, unjudged = [], [], set()
    for place, one in enumerate(said):
        if isinstance(one, Exception):
            return one
        scores.append(math.nan if one.status == "not finite" else one.score)
        if one.status not in {"ok", "not finite"}:
            unjudged.add(place)
        about = {name: value for name, value in one.details.items() if name not in {"usage", "failed"}}
        details.append({**deepcopy(about), **({} if place in asked else {"cached": True}), "usage": dict(usage)})
    return DetailedScores(scores, details, unjudged)


def _is_plain(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, list) and all(isinstance(one, int) for one in value))
