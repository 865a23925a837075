"""A late-interaction model of sentence-transformers: texts to vectors of their tokens, in our passes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.inference.passes import Passes, out_of_memory
from langchain_rerankkit.inference.token_vectors import TokenVectors
from langchain_rerankkit.inference.tokens import Row, Tokenizer
from langchain_rerankkit.inference.torch import pass_tokens, runtime_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_rerankkit.inference.token_vectors import Floats
    from langchain_rerankkit.passages import LongDocuments

__all__ = ["TokenEncoder"]

_Task = Literal["query", "document"]
_OVERLAP = 32  # tokens that neighbouring passages of a long document share
_CHARACTERS_PER_TOKEN = 16  # of the head of a long text; most texts have about 4
_OF_THE_MACHINE = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache")  # not of the model


@dataclass(frozen=True)
class _Text(Row):
    """A text on its way through the model; of its ids only their number is used."""

    text: str = ""
    task: _Task = "document"
    limit: int | None = None  # tokens; None for the model's own way


class TokenEncoder:
    """A ``sentence_transformers.MultiVectorEncoder`` in passes of a token budget.

    Which tokens count is the checkpoint's matter: its markers, prompts, query expansion and skipped punctuation are
    followed. Padding never counts.

    Args:
        model: The encoder; nothing of it changes.
        fixed: Whether nobody else changes it either. Else it may be trained between two calls.

    Attributes:
        model: The encoder.
        mean: Whether it was trained with scores divided by the number of the query's vectors.
        runtime: What it runs on, in words.
        batch_tokens: Tokens of a pass that are fastest on it.
    """

    def __init__(self, model: Any, *, fixed: bool = False) -> None:
        self._torch = require("torch", extra="local")
        self._np = require("numpy", extra="local")
        self.model = model.eval() if fixed else model
        self.mean = model.similarity_fn_name == "meanmaxsim"
        self._tokenizer: Tokenizer | None = None
        if hasattr(model.tokenizer, "backend_tokenizer") and "message" not in getattr(model, "modalities", ()):
            self._tokenizer = Tokenizer(model.tokenizer.backend_tokenizer.to_str())
        weights = next(iter(model.parameters()), None)
        self.runtime = runtime_of(getattr(weights, "dtype", None), model.device)
        self.batch_tokens = pass_tokens(model.device)
        self._passes = Passes(self._encode)
        self._fixed = fixed
        self._weights: str | None = None  # their checksum, where they do not change

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return int(self.model.get_embedding_dimension())

    def queries(self, texts: Sequence[str], batch_tokens: int | None = None) -> tuple[list[Floats], list[bool]]:
        """Vectors of queries, each of shape [tokens, dimensions], and whether the end of a query was not read."""
        network = self.model[0]
        expansion = getattr(network, "query_expansion", None) or {}
        fixed = expansion.get("length") if expansion.get("strategy") == "fixed" else None
        limit = fixed or getattr(network, "query_length", None) or self.model.max_seq_length or self._positions
        heads, overhead = self._heads(texts, min(limit, self._positions), "query")
        rows = [
            self._row(text, max(length + overhead, expansion.get("length", 0)), "query", None)
            for text, (length, _) in zip(texts, heads, strict=True)
        ]
        vectors = self._passes.outputs(rows, batch_tokens or self.batch_tokens)
        return list(vectors), [not whole for _, whole in heads]

    def documents(
        self,
        texts: Sequence[str],
        *,
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
        batch_tokens: int | None = None,
    ) -> list[TokenVectors]:
        """Vectors of documents.

        Args:
            texts: At least one.
            max_length: Most tokens of a passage, markers included; by default the checkpoint's own limit.
            long_documents: ``"chunk"`` reads a longer text in overlapping passages, whose vectors are put together.
            batch_tokens: Tokens of one pass, padding included; by default what is fastest.

        Raises:
            ValueError: If a text is too long and that is an error, or the limit leaves nothing of it.
        """
        if self._tokenizer is None and long_documents != "truncate":
            msg = f"The model puts texts into a template and cuts them itself: long_documents={long_documents!r} is not for it."
            raise ValueError(msg)
        limit = self.limit(max_length)
        heads, overhead = self._heads(texts, limit, "document")
        rows: list[_Text] = []
        counts: list[int] = []
        for text, (length, whole) in zip(texts, heads, strict=True):
            parts = [(text, length)] if whole else self._parts(text, limit - overhead, long_documents)
            rows += [self._row(part, tokens + overhead, "document", limit) for part, tokens in parts]
            counts.append(len(parts))
        outputs = iter(self._passes.outputs(rows, batch_tokens or self.batch_tokens))
        return [
            TokenVectors(
                self._np.concatenate([next(outputs) for _ in range(count)]),
                chunks=count,
                truncated=not whole and long_documents == "truncate",
            )
            for count, (_, whole) in zip(counts, heads, strict=True)
        ]

    def limit(self, max_length: int | None) -> int:
        """Most tokens of a passage: what is asked for or else the checkpoint's limit, up to what the model can read."""
        own = getattr(self.model[0], "document_length", None) or self.model.max_seq_length or self._positions
        return int(min(max_length or own, self._positions))

    def identity(self, max_length: int | None, long_documents: LongDocuments) -> str:
        """A checksum of everything that a document's vectors depend on, but for rounding: 64 hexadecimal digits.

        Weights, wherever they came from, configuration, tokenizer, prompts and how long texts are read. Device and
        arithmetic do not belong to it: what a GPU computed in bf16 serves a processor in fp32.

        Raises:
            ValueError: If the weights cannot be seen.
        """
        model = self.model
        weights = self._weights or self._checksum()
        if self._fixed:
            self._weights = weights
        tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
        definition = json.loads(tokenizer.to_str()) if tokenizer is not None else {}
        config = model[0].config.to_diff_dict() if hasattr(model[0], "config") else {}
        settings = {
            "weights": weights,
            "prompts": model.prompts,
            "modules": [
                [type(module).__name__, module.get_config_dict() if hasattr(module, "get_config_dict") else None]
                for module in model
            ],
            "config": {name: value for name, value in config.items() if name not in _OF_THE_MACHINE},
            # The last call's truncation and padding are no part of it.
            "tokenizer": {name: value for name, value in definition.items() if name not in {"truncation", "padding"}},
            "length": self.limit(max_length),
            "long_documents": [long_documents, _OVERLAP if long_documents == "chunk" else 0],
        }
        return sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def _positions(self) -> int:
        """Most tokens that the model can read."""
        config = getattr(self.model[0], "config", None)
        positions = getattr(config, "max_position_embeddings", None)
        if positions is None:
            return int(self.model.max_seq_length or 512)
        roberta = "roberta" in config.model_type or config.model_type in {"camembert", "mpnet"}  # type: ignore[union-attr]
        return int(positions) - (2 if roberta else 0)  # RoBERTa and its kin count positions from the padding id on

    def _heads(self, texts: Sequence[str], limit: int, task: _Task) -> tuple[list[tuple[int, bool]], int]:
        """How many tokens of each text are read, and whether that is all of it; and how many markers are around them."""
        if self._tokenizer is None:  # a model with a template of its own, which cuts as it likes
            return [(len(text) // 4 + 1, True) for text in texts], 0
        names = ("query",) if task == "query" else ("document", "passage", "corpus")
        prompt = next((self.model.prompts[name] for name in names if name in self.model.prompts), None) or ""
        overhead = self._tokenizer.specials[0] + len(self._tokenizer.spans(prompt)[0])
        if limit <= overhead:
            msg = f"max_length={limit} leaves nothing of a text beside the {overhead} markers: make it larger."
            raise ValueError(msg)
        heads = self._tokenizer.heads(texts, limit - overhead)
        return [(len(ids), whole) for ids, whole in heads], overhead

    def _row(self, text: str, tokens: int, task: _Task, limit: int | None) -> _Text:
        return _Text(self._np.empty(tokens, dtype=self._np.uint32), text=text, task=task, limit=limit)

    def _parts(self, text: str, room: int, long_documents: LongDocuments) -> list[tuple[str, int]]:
        """What is read of a text that does not fit, with its tokens."""
        tokenizer = self._tokenizer
        if tokenizer is None or long_documents == "truncate":
            # Of a text that is very much longer the model's tokenizer need not see the end.
            offsets = tokenizer.spans(text[: room * _CHARACTERS_PER_TOKEN])[1] if tokenizer else []
            return [(text[: offsets[room - 1][1]] if len(offsets) > room else text, room)]
        if long_documents == "error":
            msg = (
                f"A text is longer than the {room} tokens that the model reads. Set long_documents='chunk' to read all of "
                "it in passages, or 'truncate' to read its beginning."
            )
            raise ValueError(msg)
        return _chunks(tokenizer, text, room)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without dropout, whatever mode the model's owner has it in afterwards: encoding switches it off for good."""
        modes = [] if self._fixed else [(module, module.training) for module in self.model.modules()]
        try:
            self.model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training

    def _encode(self, rows: list[Any]) -> Any:
        """Vectors of each row, as an array of arrays."""
        torch, np = self._torch, self._np
        groups: dict[tuple[_Task, int | None], list[int]] = {}
        for position, row in enumerate(rows):
            groups.setdefault((row.task, row.limit), []).append(position)
        outputs = np.empty(len(rows), dtype=object)
        try:
            with self._evaluating():
                for (task, limit), positions in groups.items():
                    options = {} if limit is None else {"processing_kwargs": {"text": {"max_length": limit}}}
                    encode = self.model.encode_query if task == "query" else self.model.encode_document
                    texts = [rows[position].text for position in positions]
                    encoded = encode(texts, batch_size=len(texts), show_progress_bar=False, **options)
                    together = torch.cat(encoded).float().cpu().numpy()  # one transfer for all
                    ends = np.cumsum([len(vectors) for vectors in encoded])
                    for position, vectors in zip(positions, np.split(together, ends[:-1]), strict=True):
                        outputs[position] = vectors
        except Exception as error:
            if self.model.device.type == "cuda" and out_of_memory(error):
                torch.cuda.empty_cache()
            raise
        return outputs

    def _checksum(self) -> str:
        """Of the weights, rounded to bf16, as they are where the model was loaded in that."""
        if self.model.get_backend() != "torch":
            msg = f"A store needs a model on torch, whose weights can be told apart, not on {self.model.get_backend()}."
            raise ValueError(msg)
        torch, digest = self._torch, sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            # No token's vector goes through a pooler, and checkpoints often lack it: it is random then.
            if not isinstance(tensor, torch.Tensor) or ".pooler." in name:
                continue
            digest.update(f"{name} {list(tensor.shape)}".encode())
            rounded = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
            digest.update(rounded.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy())
        return digest.hexdigest()


def _chunks(tokenizer: Tokenizer, text: str, room: int) -> list[tuple[str, int]]:
    """Overlapping passages of a text that does not fit, and the tokens of each, which are at most so many.

    Together they cover the text; the last is full as well, as far as the overlap allows. A passage begins with a word
    where it can, for the end of a word may be more tokens than it was as a part of it, and each is counted anew.
    """
    offsets = tokenizer.spans(text)[1]
    count = len(offsets)

    def passage(start: int, stop: int) -> tuple[str, int]:
        part = text[offsets[start][0] : offsets[stop - 1][1]]
        return part, len(tokenizer.spans(part)[0])

    parts: list[tuple[str, int]] = []
    at = covered = 0  # tokens of the text: where the next passage may begin, and up to where they have been read
    while covered < count:
        start = _word(text, offsets, max(0, count - room), covered) if count - room <= at else count
        while start <= covered:  # the last one: its end is kept
            part, tokens = passage(start, count)
            if tokens <= room:
                return [*parts, (part, tokens)]
            start = _word(text, offsets, start + tokens - room, covered)
        start = _word(text, offsets, at, covered)
        stop = min(start + room, count)
        part, tokens = passage(start, stop)
        while tokens > room and stop > start + 1:
            stop = max(start + 1, stop - (tokens - room))
            part, tokens = passage(start, stop)
        parts.append((part, tokens))
        at, covered = max(at + 1, stop - min(_OVERLAP, room - 1)), stop
    return parts


def _word(text: str, offsets: list[tuple[int, int]], start: int, latest: int) -> int:
    """The first of these tokens that begins a word; the start itself where there is none."""
    for place in range(start, latest + 1):
        begin = offsets[place][0]
        if begin == 0 or text[begin - 1].isspace() or text[begin : begin + 1].isspace():
            return place
    return start
