"""Pairs of query and text through a cross-encoder: encoded once, cut on the side of the text, scored in passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.passes import Passes
from langchain_rerankkit.inference.tokens import Row, Tokenizer, pad, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_rerankkit.inference.models import ModelFiles
    from langchain_rerankkit.inference.onnx import Graph
    from langchain_rerankkit.inference.tokens import Ids
    from langchain_rerankkit.passages import LongDocuments

__all__ = [
    "Encoded",
    "GraphPairs",
    "Limits",
    "PairModel",
    "PairOutputs",
    "encode_pairs",
    "score_pairs",
    "too_long",
]

_DEFAULT_LENGTH = 512


@dataclass(frozen=True)
class Limits:
    """How much of a pair the model reads.

    Attributes:
        pair: Most tokens of a pair, special tokens included; None for the model's own limit.
        query: Most tokens of the query; None for half of what a pair holds.
        long_documents: What happens to a text that does not fit beside its query.
        overlap: Tokens that neighbouring chunks of a text share.
    """

    pair: int | None = None
    query: int | None = None
    long_documents: LongDocuments = "truncate"
    overlap: int = 32


@dataclass(frozen=True)
class Encoded:
    """A pair as the model reads it: one row, or one for each chunk of the text.

    Attributes:
        rows: At least one.
        spans: First character and the one after the last, for each row; None where the text is not in chunks.
        truncated: Whether part of the query or of the text is not read.
    """

    rows: list[Row]
    spans: list[tuple[int, int]] | None = None
    truncated: bool = False


@dataclass(frozen=True)
class PairOutputs:
    """What the model says of one pair.

    Attributes:
        logits: Shape [rows, labels].
        spans: As in `Encoded`.
        truncated: As in `Encoded`.
    """

    logits: list[list[float]]
    spans: list[tuple[int, int]] | None
    truncated: bool


class PairModel(Protocol):
    """A cross-encoder, whatever runs it."""

    runtime: str
    """What it runs on, in words."""

    batch_tokens: int
    """Tokens of a pass that are fastest on it."""

    passes: Passes
    """From rows to logits of shape [rows, labels]."""

    def encode(self, pairs: Sequence[tuple[str, str]], limits: Limits, instruction: str | None) -> list[Encoded]:
        """What the model reads of different pairs."""
        ...


def score_pairs(
    model: PairModel,
    pairs: Sequence[tuple[str, str]],
    limits: Limits,
    batch_tokens: int | None = None,
    instruction: str | None = None,
) -> list[PairOutputs]:
    """Score pairs of any number of queries in one stream, equal ones once.

    Args:
        model: The cross-encoder.
        pairs: Query and text.
        limits: How much of a pair is read.
        batch_tokens: Tokens of one pass, padding included; by default what is fastest on the model.
        instruction: What to look for, in words.

    Returns:
        Outputs in the order of the pairs.

    Raises:
        ValueError: If a text is too long and ``limits`` says that this is an error.
    """
    positions: dict[tuple[str, str], int] = {}
    chosen = [positions.setdefault(pair, len(positions)) for pair in pairs]
    encoded = model.encode(list(positions), limits, instruction)
    rows = [row for one in encoded for row in one.rows]
    logits = model.passes.outputs(rows, batch_tokens or model.batch_tokens).tolist()
    outputs: list[PairOutputs] = []
    stop = 0
    for one in encoded:
        start, stop = stop, stop + len(one.rows)
        outputs.append(PairOutputs(logits[start:stop], one.spans, one.truncated))
    return [outputs[position] for position in chosen]


def encode_pairs(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], limits: Limits, max_length: int
) -> list[Encoded]:
    """Encode pairs, each query and each text once.

    Args:
        tokenizer: The model's.
        pairs: Query and text.
        limits: How much of a pair is read.
        max_length: The model's own limit for a pair in tokens.
    """
    room = min(limits.pair or max_length, max_length) - tokenizer.specials[1]
    if room < 2:  # noqa: PLR2004 - a token of the query, one of the text
        msg = f"max_length leaves {room} tokens for query and text: make it larger."
        raise ValueError(msg)
    cap = min(limits.query or room // 2, room - 1)
    queries = _each_once([query for query, _ in pairs], tokenizer, cap)
    texts = _each_once([text for _, text in pairs], tokenizer, room)
    spans: dict[str, tuple[Ids, list[tuple[int, int]]]] = {}
    encoded = []
    for query, text in pairs:
        (head, query_whole), (ids, text_whole) = queries[query], texts[text]
        size = room - len(head)
        if text_whole and len(ids) <= size:
            encoded.append(Encoded([tokenizer.pair(head, ids)], None, not query_whole))
        elif limits.long_documents == "truncate":
            encoded.append(Encoded([tokenizer.pair(head, ids[:size])], None, truncated=True))
        elif limits.long_documents == "chunk":
            if text not in spans:
                spans[text] = tokenizer.spans(text)
            whole, offsets = spans[text]
            cuts = windows(len(whole), size, min(limits.overlap, size - 1))
            rows = [tokenizer.pair(head, whole[start:stop]) for start, stop in cuts]
            places = [(offsets[start][0], offsets[stop - 1][1]) for start, stop in cuts]
            encoded.append(Encoded(rows, places, not query_whole))
        else:
            raise too_long(size)
    return encoded


class GraphPairs:
    """A cross-encoder as a graph, with its tokenizer: no torch, no transformers.

    Args:
        tokenizer: The model's.
        graph: The graph, from ids to logits.
        pad_id: Id of the padding token.
        max_length: The model's own limit for a pair in tokens.
    """

    def __init__(self, tokenizer: Tokenizer, graph: Graph, *, pad_id: int, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._graph = graph
        self._pad_id = pad_id
        self._max_length = max_length
        self.runtime = graph.runtime
        self.batch_tokens = graph.batch_tokens
        self.passes = Passes(self._logits)

    @classmethod
    def from_files(cls, files: ModelFiles, graph: Graph) -> GraphPairs:
        """Read tokenizer and settings from a model's folder.

        Raises:
            ModelNotFoundError: If the tokenizer is missing or damaged.
        """
        settings, config = files.settings("tokenizer_config.json"), files.settings("config.json")
        # A tokenizer that does not give token types to its model was trained without: they are zeros then.
        names = settings.get("model_input_names")
        types = "token_type_ids" in graph.inputs and (names is None or "token_type_ids" in names)
        definition = files.read("tokenizer.json", required=True) or b""
        tokenizer = Tokenizer(definition.decode(errors="replace"), types=types)
        return cls(tokenizer, graph, pad_id=_pad_id(tokenizer, settings, config), max_length=_longest(settings, config))

    def encode(self, pairs: Sequence[tuple[str, str]], limits: Limits, instruction: str | None) -> list[Encoded]:
        """See `PairModel`. An instruction comes right before the query."""
        if instruction:
            pairs = [(instruction + query, text) for query, text in pairs]
        return encode_pairs(self._tokenizer, pairs, limits, self._max_length)

    def _logits(self, rows: list[Row]) -> Any:
        logits = self._graph.run(pad(rows, self._pad_id))
        if logits.ndim not in {1, 2} or len(logits) != len(rows):
            msg = f"The graph gives an output of shape {list(logits.shape)} for {len(rows)} pairs: it is no cross-encoder."
            raise ModelNotFoundError(msg)
        return logits.reshape(len(rows), -1).astype("float32", copy=False)


def too_long(size: int) -> ValueError:
    """The error for a text that does not fit into `size` tokens."""
    msg = (
        f"A text is longer than the {size} tokens that fit beside its query. Set long_documents='chunk' to score all of "
        "it, or 'truncate' to score its beginning."
    )
    return ValueError(msg)


def _each_once(texts: list[str], tokenizer: Tokenizer, limit: int) -> dict[str, tuple[Ids, bool]]:
    different = list(dict.fromkeys(texts))
    return dict(zip(different, tokenizer.heads(different, limit), strict=True))


def _pad_id(tokenizer: Tokenizer, settings: dict[str, Any], config: dict[str, Any]) -> int:
    if isinstance(config.get("pad_token_id"), int):
        return int(config["pad_token_id"])
    token = settings.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    number = tokenizer.token_id(token) if isinstance(token, str) else None
    return number or 0


def _longest(settings: dict[str, Any], config: dict[str, Any]) -> int:
    """The longest pair that tokenizer and position embeddings allow."""
    limits = []
    if isinstance(settings.get("model_max_length"), int) and settings["model_max_length"] < 1 << 24:
        limits.append(settings["model_max_length"])  # tokenizers without a limit say 10^30
    if isinstance(config.get("max_position_embeddings"), int):
        roberta = "roberta" in str(config.get("model_type")) or config.get("model_type") in {"camembert", "mpnet"}
        # RoBERTa and its kin count positions from the padding id on.
        limits.append(config["max_position_embeddings"] - (2 if roberta else 0))
    return min([limit for limit in limits if limit > 0], default=_DEFAULT_LENGTH)
