"""What the rerankers that combine others have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.records import Judged, RerankInput, ScoreRequest, total_usage

__all__ = ["CombiningReranker", "as_input", "check_member", "spent"]


class CombiningReranker(Reranker):
    """A reranker made of rerankers."""

    rerankers: list[Reranker] = Field(min_length=1)
    """The members. What `not_on_members` names belongs on the whole, not on them."""

    not_on_members: ClassVar[tuple[str, ...]] = ("top_n", "min_score", "on_error")
    """Fields that members must leave at their default."""

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        for reranker in self.rerankers:
            check_member(self, reranker, self.not_on_members)
        return self

    @override
    def warmup(self) -> Self:
        for reranker in self.rerankers:
            reranker.warmup()
        return self

    @override
    def close(self) -> None:
        for reranker in self.rerankers:
            reranker.close()
        super().close()


def check_member(whole: Reranker, member: Reranker, fields: Sequence[str] = CombiningReranker.not_on_members) -> None:
    """Refuse a member that has fields set that belong on the whole.

    Raises:
        ValueError: If it has.
    """
    if any(getattr(member, name) != Reranker.model_fields[name].default for name in fields):
        names = f"{', '.join(fields[:-1])} and {fields[-1]}"
        msg = (
            f"Set {names} on the {type(whole).__name__}, not on its member {type(member).__name__}, which must judge all "
            "documents or say that it failed."
        )
        raise ValueError(msg)


def as_input(request: ScoreRequest) -> RerankInput:
    """A request as a member's input.

    Members without a ``document_text`` of their own judge the text of the whole, and keep ids and metadata to hand.
    """
    documents = [
        document if document.page_content == text else document.model_copy(update={"page_content": text})
        for document, text in zip(request.documents, request.texts, strict=True)
    ]
    return {"query": request.query, "documents": documents}


def spent(answers: Sequence[Judged]) -> dict[str, Any]:
    """What several answers cost together; each says it beside each of its documents."""
    each = [total_usage(next(filter(None, answer.details), {})) for answer in answers]
    return total_usage({"failed": [{"usage": usage} for usage in each]})
