"""What the rerankers have in common whose models read elsewhere: long texts are cut here, without their tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pydantic import Field

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.passages import Chunks, ChunkScore, LongDocuments, cut

__all__ = ["ChunkingReranker"]


class ChunkingReranker(Reranker):
    """A reranker that judges long texts by their beginning, or in chunks. Subclasses say what a long text is."""

    long_documents: LongDocuments = "truncate"
    """What happens to a text that is too long: ``"truncate"`` judges its beginning, ``"chunk"`` all of it in overlapping
    parts that end where sentences or words do, each judged as a document of its own, ``"error"`` raises. How many
    ``chunks`` there were and the characters of the best one, ``best_span``, counted in what the model reads (see
    ``document_text``), are in ``metadata["rerank"]``."""

    chunk_overlap: int = Field(default=32, ge=0)
    """What neighbouring chunks share, in the unit of their size: at most half of a chunk."""

    chunk_score: ChunkScore = "max"
    """The raw score of a text in chunks: of its best chunk, their mean, or that of the first."""

    max_chunks: int | None = Field(default=100, ge=1)
    """Most chunks of a text, since each is paid for; all if None. ``metadata["rerank"]["truncated"]`` says that there
    would have been more."""

    def _chunks(
        self,
        texts: Sequence[str],
        size: int,
        unit: str,
        shown: Callable[[str], tuple[str, bool]],
        reach: Callable[[str, int], int],
    ) -> Chunks:
        """What is judged of texts.

        Args:
            texts: The texts.
            size: The most that is judged of a text at once.
            unit: In what ``size`` counts, in words.
            shown: What is judged of a text or a part of one at once, and whether that is not all of it.
            reach: From a text and the first character of a part to the one after the last that it may have.

        Raises:
            ValueError: If a long text is an error.
        """
        chunks = Chunks()
        for text in texts:
            beginning, long = shown(text)
            if long:
                beginning, long = shown(text.strip())  # white space around it may be all that there is too much of
            if not long or self.long_documents == "truncate":
                chunks.add([beginning], truncated=long)
                continue
            if self.long_documents == "error":
                msg = (
                    f"A text is longer than {size} {unit}. Set long_documents='chunk' to judge all of it, or 'truncate' "
                    "to judge its beginning."
                )
                raise ValueError(msg)
            spans = cut(text, partial(reach, text), min(self.chunk_overlap / size, 0.5), self.max_chunks)
            parts = [shown(text[start:stop]) for start, stop in spans]
            unread = any(long for _, long in parts) or bool(text[spans[-1][1] :].strip())
            chunks.add([part for part, _ in parts], spans, truncated=unread)
        return chunks
