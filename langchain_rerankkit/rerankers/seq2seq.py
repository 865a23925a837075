"""Reranking by sequence-to-sequence models of the T5 family: monoT5, InRanker, RankT5."""

from __future__ import annotations

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.inference.pairs import PairModel
from langchain_rerankkit.inference.seq2seq import Kind, Recipe, load_seq2seq
from langchain_rerankkit.rerankers.local import LocalReranker

__all__ = ["Seq2SeqReranker"]


class Seq2SeqReranker(LocalReranker):
    """Reranks with a T5 that was trained to judge a text (extra ``local``).

    Query and text become one prompt; only the text is cut where it does not fit, never the prompt's end. One step of
    decoding gives the score, and of the vocabulary only the tokens that make it are multiplied, in full precision.

    monoT5 (Nogueira et al. 2020, "Document Ranking with a Pretrained Sequence-to-Sequence Model") and InRanker (Laitz
    et al. 2024) answer "true" or "false": the raw score is the difference of the two logits, the score their softmax.
    RankT5 (Zhuang et al., SIGIR 2023) has the logit of an unused token, ``<extra_id_10>``, as its raw score, or a linear
    layer on the encoder alone.

    Weights are read from ``*.safetensors`` only.

    Example::

        Seq2SeqReranker(model="unicamp-dl/InRanker-small", top_n=5)
        Seq2SeqReranker(model="unicamp-dl/mt5-base-mmarco-v2", kind="monot5", relevant="yes", irrelevant="no")
    """

    model: str = Field(min_length=1)
    """Name on the model hub, or a folder."""

    kind: Kind = "auto"
    """What the model was trained for: ``"monot5"`` answers with a word, ``"rankt5"`` scores by the logit of
    ``<extra_id_10>``, ``"encoder"`` by a linear layer on the encoder's first token (``T5ForTokenClassification``),
    ``"classifier"`` is a ``T5ForSequenceClassification``, whose `label` may be chosen. ``"auto"`` knows classifiers by
    their configuration and monoT5, InRanker and RankT5 by their name; any other model is an error, not a guess."""

    prompt: str | None = None
    """Template with ``{query}`` and ``{text}``, white space around them. By default ``Query: {query} Document: {text}``,
    for monoT5 with ``Relevant:`` at its end; classifiers read pairs as their tokenizer joins them."""

    relevant: str | None = None
    """monoT5's answer for a relevant text: by default "true" for a T5. To be said for an mT5, often "yes"."""

    irrelevant: str | None = None
    """The other answer: by default "false"; often "no" for an mT5."""

    revision: str | None = None
    """Commit, tag or branch on the model hub."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Needs a ``revision``: without one the code can change any day."""

    max_length: int | None = Field(default=512, ge=8)
    """Longest prompt in tokens. T5 has no limit of its own, but was trained on 512: a larger number reads more of a text,
    with memory that grows by its square."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        words = {self.relevant, self.irrelevant}
        msg = ""
        if self.backend not in {"auto", "torch"}:
            msg = f"Seq2SeqReranker runs on torch only, not on {self.backend!r}: use backend='torch'."
        elif self.precision == "int8":
            msg = "Seq2SeqReranker has no int8: use precision='bf16' or 'fp32'."
        elif self.label is not None and self.kind != "classifier":
            msg = "label chooses an output of a classifier: set kind='classifier'."
        elif self.prompt is not None and (self.prompt.count("{query}"), self.prompt.count("{text}")) != (1, 1):
            msg = "The prompt must have {query} and {text}, each once."
        elif words != {None} and len(words - {None}) != 2:  # noqa: PLR2004 - relevant, and not
            msg = "relevant and irrelevant are two answers: set both, to different words."
        elif words != {None} and self.kind not in {"auto", "monot5"}:
            msg = f"relevant and irrelevant are answers of monoT5, kind={self.kind!r} has none."
        elif self.trust_remote_code and self.revision is None:
            msg = "trust_remote_code=True runs code from the model hub: pin it with revision=<commit>."
        if msg:
            raise ValueError(msg)
        return self

    @override
    def _load(self) -> PairModel:
        words = (self.irrelevant, self.relevant) if self.relevant and self.irrelevant else None
        return load_seq2seq(
            self.model,
            Recipe(self.kind, self.prompt, words),
            precision=self.precision,
            device=self.device,
            threads=self.threads,
            revision=self.revision,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
            trust_remote_code=self.trust_remote_code,
        )
