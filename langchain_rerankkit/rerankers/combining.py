"""What the rerankers that combine others have in common."""

from __future__ import annotations

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.records import RerankInput, ScoreRequest

__all__ = ["CombiningReranker", "as_input"]


class CombiningReranker(Reranker):
    """A reranker made of rerankers."""

    rerankers: list[Reranker] = Field(min_length=1)
    """The members. ``top_n``, ``min_score`` and ``on_error`` belong on the whole, not on them."""

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        for reranker in self.rerankers:
            if reranker.top_n is not None or reranker.min_score is not None or reranker.on_error != "raise":
                msg = (
                    f"Set top_n, min_score and on_error on the {type(self).__name__}, not on its member "
                    f"{type(reranker).__name__}, which must judge all documents or say that it failed."
                )
                raise ValueError(msg)
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


def as_input(request: ScoreRequest) -> RerankInput:
    """A request as a member's input.

    Members without a ``document_text`` of their own judge the text of the whole, and keep ids and metadata to hand.
    """
    documents = [
        document if document.page_content == text else document.model_copy(update={"page_content": text})
        for document, text in zip(request.documents, request.texts, strict=True)
    ]
    return {"query": request.query, "documents": documents}
