"""Reranking by rank_llm's models: RankZephyr, RankVicuna, FirstMistral, LiT5, monoT5, duoT5, GPT and more."""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, SecretStr, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import OrderError
from langchain_rerankkit.ranking import scores_from_order
from langchain_rerankkit.records import Answer, DetailedScores
from langchain_rerankkit.rerankers._rankllm_guard import (
    ChatCalls,
    Coordinator,
    import_rank_llm,
    kept_openai_globals,
    quiet,
)

__all__ = ["RankLLMReranker"]

_Family = Literal["listwise", "pointwise", "pairwise"]


class _Kind(NamedTuple):
    module: str
    name: str
    family: _Family = "listwise"
    template: str | None = None  # where the class has no default
    key: str | None = None  # environment variable of its API key


_OPENAI = _Kind("listwise.rank_gpt", "SafeOpenai", template="rank_gpt_template.yaml", key="OPENAI_API_KEY")
_LOCAL_LLM = _Kind("listwise.rank_listwise_os_llm", "RankListwiseOSLLM")
_KINDS = {  # parts of names, in the order in which rank_llm looks for them
    "gpt": _OPENAI,
    "gemini": _Kind("listwise.rank_gemini", "SafeGenai", template="rank_zephyr_template.yaml", key="GEN_AI_API_KEY"),
    "monot5": _Kind("pointwise.monot5", "MonoT5", "pointwise"),
    "monoelectra": _Kind("pointwise.monoelectra", "MonoELECTRA", "pointwise"),
    "duot5": _Kind("pairwise.duot5", "DuoT5", "pairwise"),
    "lit5-distill": _Kind("listwise.rank_fid", "RankFiDDistill"),
    "lit5-score": _Kind("listwise.rank_fid", "RankFiDScore"),
}
_FULL_NAMES = {
    "monot5": "castorini/monot5-3b-msmarco-10k",
    "monoelectra": "castorini/monoelectra-base",
    "duot5": "castorini/duot5-3b-msmarco-10k",
    "rank_zephyr": "castorini/rank_zephyr_7b_v1_full",
    "rank_vicuna": "castorini/rank_vicuna_7b_v1",
}


class RankLLMReranker(Reranker):
    """Reranks with a model of `rank_llm <https://github.com/castorini/rank_llm>`_.

    The name says the kind, as in rank_llm: ``gpt`` or a ``base_url`` is a chat model on a server, ``monot5`` and
    ``monoelectra`` judge passages one by one, ``duot5`` in pairs, ``lit5-distill``, ``lit5-score``, ``rank_zephyr``,
    ``rank_vicuna`` and every other model put a list in order. Only the passage-by-passage ones have scores that mean
    something by themselves. An answer that names no passage raises `OrderError`, where rank_llm keeps the order.

    rank_llm runs on threads of ours, and ``timeout`` ends the wait for them. It prints nothing, and neither the root
    logger nor the globals of the ``openai`` module are changed. Chat models are asked with ``openai``'s own few
    retries; every other error that rank_llm retries for ever ends with the deadline. Where a thread cannot be ended it
    is counted, and after a few of them calls are refused. Local models rank one list at a time.

    rank_llm cuts each passage to its share of the prompt, in its own measure, which differs between its models, and does
    not say so: there is no ``long_documents`` here. `ListwiseReranker` has it, also for RankZephyr and RankVicuna.

    The rank-llm on PyPI needs Python 3.11, vllm at import time, whatever the model, and transformers older than 4.56.
    For chat models without it, use ``ListwiseReranker``.
    """

    model: str | None = None
    """Name or folder of the model: ``"rank_zephyr"``, ``"castorini/LiT5-Distill-base"``, ``"gpt-4o-mini"`` …
    It is loaded at first use."""

    client: Any = Field(default=None, exclude=True, repr=False)
    """A ready coordinator or wrapper of rank_llm, instead of a name. Its own settings hold, but not its retries."""

    base_url: str | None = None
    """Server of a chat model. A ``client`` of the class ``SafeOpenai`` does not remember its own: by default it is the
    one that the ``openai`` module names when this reranker is made."""

    api_key: SecretStr | None = Field(default=None, repr=False)
    """Key for that server; from ``OPENAI_API_KEY`` (``GEN_AI_API_KEY`` for Gemini) by default."""

    window_size: int = Field(default=20, ge=2)
    """Passages that a listwise model sees at once."""

    stride: int = Field(default=10, ge=1)
    """Places by which the window moves, from the end of the list to its head."""

    context_size: int | None = Field(default=None, ge=64)
    """Longest prompt in tokens: by default that of the class in rank_llm, and 4096 for chat models."""

    batch_size: int | None = Field(default=None, ge=1)
    """Prompts in a pass of a local model; the default is rank_llm's."""

    device: str | None = None
    """``"cuda"``, ``"cpu"`` …; by default CUDA where there is one."""

    prompt_template_path: str | None = None
    """A YAML template of your own, in rank_llm's format."""

    timeout: float = Field(default=600.0, gt=0)
    """Seconds for a whole call, after the model was loaded."""

    options: dict[str, Any] = Field(default_factory=dict)
    """More arguments for the constructor in rank_llm: ``{"use_alpha": True, "use_logits": True}`` for FirstMistral."""

    _seen: Any = PrivateAttr(default=None)
    _found_base_url: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.model is None) == (self.client is None):
            msg = "Give either the name of a model or a ready client."
            raise ValueError(msg)
        if self.stride > self.window_size:
            msg = f"A stride of {self.stride} would skip passages between windows of {self.window_size}."
            raise ValueError(msg)
        if self.model is not None and self.base_url is None and "jina-reranker" in self.model:
            msg = "rank_llm runs code that comes with Jina's models: make its JinaReranker and give it as client."
            raise ValueError(msg)
        if self.client is not None:
            if not hasattr(_inner(self.client), "rerank_batch"):
                msg = f"The client must be a coordinator of rank_llm, not {type(self.client).__name__}."
                raise ValueError(msg)
            if self._seen is not self.client:  # once: later another coordinator may have changed it
                url = getattr(sys.modules.get("openai"), "base_url", None)
                self._seen, self._found_base_url = self.client, None if url is None else str(url)
        return self

    @property
    @override
    def scores_are(self) -> Literal["relevance", "rank"]:
        return "relevance" if self._family == "pointwise" else "rank"

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": self._kind.key or "OPENAI_API_KEY"}

    @property
    def _kind(self) -> _Kind:
        if self.base_url is not None or self.model is None:
            return _OPENAI
        for part, kind in _KINDS.items():
            if part in (self.model.lower() if part.startswith("lit5") else self.model):
                return kind
        return _LOCAL_LLM

    @property
    def _family(self) -> _Family:
        if self.client is None:
            return self._kind.family
        modules = ".".join(base.__module__ for base in type(_inner(self.client)).__mro__).split(".")
        return "pointwise" if "pointwise" in modules else "pairwise" if "pairwise" in modules else "listwise"

    @override
    def _label(self) -> str:
        return self.model or str(getattr(_inner(self.client), "_model", type(self.client).__name__))

    # --- the coordinator ------------------------------------------------------------------------------------------

    @override
    def _load(self) -> Coordinator:
        if self.client is not None:
            import_rank_llm("rank_llm.data")
            inner = _inner(self.client)
            keys = getattr(inner, "_keys", [])
            start = getattr(inner, "_cur_key_id", 0)
            return Coordinator(inner, self._chat(inner, [*keys[start:], *keys[:start]]))
        kind = self._kind
        made = getattr(import_rank_llm(f"rank_llm.rerank.{kind.module}"), kind.name)
        if kind is not _OPENAI:
            with quiet():
                return Coordinator(made(**self._arguments(made, self._key())))
        with quiet(), kept_openai_globals():
            inner = made(**self._arguments(made, "not-given-to-globals"))
        return Coordinator(inner, self._chat(inner, [self._key() or "none"]))

    def _key(self) -> str | None:
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        return os.environ.get(self._kind.key) if self._kind.key else None

    def _chat(self, inner: Any, keys: Sequence[str]) -> ChatCalls | None:
        """How to ask for a ``SafeOpenai``; other coordinators ask by themselves."""
        bases = {base.__name__: base for base in type(inner).__mro__}
        if "SafeOpenai" not in bases:
            return None
        azure = {"azure_endpoint": self.options.get("api_base"), "api_version": self.options.get("api_version")}
        return ChatCalls(
            keys,
            self.base_url or self._found_base_url,
            responses="reasoning_effort" in inspect.signature(bases["SafeOpenai"]).parameters,
            azure={name: str(value) for name, value in azure.items()} if all(azure.values()) else None,
        )

    def _arguments(self, made: Any, key: str | None) -> dict[str, Any]:
        """What the constructor takes of our fields, and all of ``options``: a wrong one is an error, not ignored."""
        template = self.prompt_template_path
        if template is None and self._kind.template is not None:
            template = str(files("rank_llm.rerank.prompt_templates") / self._kind.template)
        fields = {
            "model": _FULL_NAMES.get(self.model or "", self.model),
            "context_size": self.context_size or (4096 if self._kind.template else None),
            "prompt_template_path": template,
            "window_size": self.window_size,
            "stride": self.stride,
            "batch_size": self.batch_size,
            "device": self.device or _device(),
            "keys": key,
        }
        taken = inspect.signature(made).parameters
        return {name: value for name, value in fields.items() if name in taken and value is not None} | self.options

    # --- a call ---------------------------------------------------------------------------------------------------

    @override
    def _score(self, query: str, texts: list[str]) -> Answer:
        distinct = list(dict.fromkeys(texts))  # equal texts are judged once, and score the same
        if len(distinct) == 1 and self._family != "pointwise":
            return [1.0] * len(texts)
        coordinator: Coordinator = self._ready()
        data = require("rank_llm.data", extra="rankllm")
        candidates = [data.Candidate(str(number), 0.0, {"text": _plain(text)}) for number, text in enumerate(distinct)]
        request = data.Request(data.Query(_plain(query), "0"), candidates)
        answer = coordinator.rank(request, len(distinct), self.timeout)
        result = answer[0] if isinstance(answer, (list, tuple)) else answer
        history = result.invocations_history
        history = history if isinstance(history, list) else []
        if self._family == "listwise":
            _check_answers(history, coordinator.inner, len(distinct))
        scores = dict(zip(distinct, self._scores(result.candidates, len(distinct)), strict=True))
        return DetailedScores([scores[text] for text in texts], [_usage(history) for _ in texts])

    def _scores(self, ranked: Sequence[Any], count: int) -> list[float]:
        order = [int(candidate.docid) for candidate in ranked]
        if sorted(order) != list(range(count)):
            msg = f"rank_llm returned {len(order)} candidates, which are not the {count} that it was given."
            raise OrderError(msg)
        if self._family != "pointwise":
            return scores_from_order(order, count)
        by_position = {position: float(candidate.score) for position, candidate in zip(order, ranked, strict=True)}
        return [by_position[position] for position in range(count)]


def _inner(client: Any) -> Any:
    """The coordinator inside of rank_llm's wrappers (``Reranker``, ``ZephyrReranker``, ``LiT5DistillReranker`` …)."""
    for name in ("_model_coordinator", "_reranker"):
        inside = getattr(client, name, None)
        if inside is not None:
            return _inner(inside)
    return client


def _device() -> str:
    torch = sys.modules.get("torch")  # imported by every class that has a device
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def _plain(text: str) -> str:
    """Text without control tokens such as ``<|endoftext|>``: tiktoken refuses them, and chat templates obey them."""
    return re.sub(r"<\|(\w+)\|>", r"< |\1| >", text)


def _check_answers(history: Sequence[Any], coordinator: Any, count: int) -> None:
    """Refuse what rank_llm takes for an order without a word: no call at all, and answers that name no passage."""
    limit = min(count, getattr(coordinator, "_window_size", count))
    windows = 1 + max(0, math.ceil((count - limit) / getattr(coordinator, "_stride", count)))
    if len(history) < windows:  # a failed call of its event loop is lost without a word
        msg = f"rank_llm has {len(history)} answers to {windows} windows of {count} candidates."
        raise OrderError(msg)
    for invocation in history:
        answer = str(invocation.response or "")
        if answer.startswith("ERROR::") or not _names_passages(
            answer, limit, alpha=getattr(coordinator, "_use_alpha", False)
        ):
            msg = "The model's answer names none of the passages; rank_llm would have kept their order."
            raise OrderError(msg, answer=answer)


def _names_passages(answer: str, limit: int, *, alpha: bool) -> bool:
    said = answer.rpartition("</think>")[2]
    if alpha:
        letters = re.findall(r"\[([A-Z])\]", said) or re.findall(r"\b[A-Z]\b", said)
        return any(ord(letter) - ord("A") < limit for letter in letters)
    digits = (unicodedata.digit(character, -1) for character in said)
    numbers = "".join(" " if digit < 0 else str(digit) for digit in digits).split()
    return any(1 <= int(number) <= limit for number in numbers)


def _usage(history: Sequence[Any]) -> dict[str, Any]:
    """Calls and tokens of the whole list, as rank_llm counts them; nothing where it does not."""
    if not history:
        return {}
    tokens = {}
    for name in ("input", "output"):
        counts = [getattr(invocation, f"{name}_token_count", None) for invocation in history]
        tokens[f"{name}_tokens"] = sum(count for count in counts if isinstance(count, int))
    return {"usage": {"calls": len(history), **tokens}}
