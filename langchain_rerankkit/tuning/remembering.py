"""A reranker that is asked about a document once, however many settings want to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from langchain_core.documents import Document
from pydantic import PrivateAttr
from typing_extensions import override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.records import Answer, DetailedScores, Judged, ScoreRequest

__all__ = ["RememberingReranker"]

_Key = tuple[str | int, ...]
_Said = float | Literal["unjudged", "dropped"]


class RememberingReranker(Reranker):
    """Answers from what its member said before: of each document, or of a whole list where scores do not stand alone.

    In place of its member in a cascade or an ensemble it gives the same order, so that hundreds of settings cost what one
    does. Errors are not kept.
    """

    reranker: Reranker
    """The member."""

    _alone: dict[_Key, _Said] = PrivateAttr(default_factory=dict)
    _lists: dict[_Key, list[_Said]] = PrivateAttr(default_factory=dict)
    _asked: list[Document] = PrivateAttr(default_factory=list)  # kept, for no other to get the number of one

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return self.reranker.scores_are

    @property
    @override
    def judges_alone(self) -> bool:
        return self.reranker.judges_alone

    @override
    def _label(self) -> str:
        return self.reranker._label()  # noqa: SLF001 - a member's

    @override
    def _activate(self, raw_score: float) -> float:
        return self.reranker._activate(raw_score)  # noqa: SLF001

    @override
    def _text(self, document: Document) -> str:
        return self.reranker._text(document)  # noqa: SLF001

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        keys = [[_key(request, place) for place in range(len(request.texts))] for request in requests]
        asked, inputs = [], []
        for request, of_request in zip(requests, keys, strict=True):
            if self.judges_alone:
                new = [place for place, key in enumerate(of_request) if key not in self._alone]
            else:
                new = [] if _whole(of_request) in self._lists else list(range(len(of_request)))
            if new:
                asked.append((of_request, new))
                documents = [request.documents[place] for place in new]
                self._asked.extend(documents)
                inputs.append({"query": request.query, "documents": documents})
        failed: dict[_Key, Exception] = {}
        if inputs:
            answers = self.reranker._judge_many(inputs)  # type: ignore[arg-type]  # noqa: SLF001
            for (of_request, new), judged in zip(asked, answers, strict=True):
                if isinstance(judged, Exception):
                    failed[_whole(of_request)] = judged
                elif self.judges_alone:
                    self._alone |= dict(zip((of_request[place] for place in new), _scores(judged), strict=True))
                else:
                    self._lists[_whole(of_request)] = _scores(judged)
        return [failed.get(_whole(of_request)) or self._remembered(of_request) for of_request in keys]

    def _remembered(self, keys: Sequence[_Key]) -> Answer:
        known = [self._alone[key] for key in keys] if self.judges_alone else self._lists[_whole(keys)]
        scores = [0.0 if isinstance(said, str) else said for said in known]
        unjudged, dropped = (
            {place for place, said in enumerate(known) if said == how} for how in ("unjudged", "dropped")
        )
        return DetailedScores(scores, [{}] * len(scores), unjudged, dropped)


def _key(request: ScoreRequest, place: int) -> _Key:
    # The document itself, since rerankers may read its metadata, and each member of one something else.
    return request.query, id(request.documents[place])


def _whole(keys: Sequence[_Key]) -> _Key:
    return tuple(part for key in keys for part in key)


def _scores(judged: Judged) -> list[_Said]:
    return [
        score if status == "ok" else "dropped" if status == "dropped" else "unjudged"
        for score, status in zip(judged.raw_scores, judged.statuses, strict=True)
    ]
