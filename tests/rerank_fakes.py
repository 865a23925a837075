"""Fakes of the rerank APIs, written from their documentation and without a look at this package's own client.

A fake is an app for `tests.rerank_server.serve`. It refuses what its provider refuses, in the provider's words, so a
client that gets through has spoken the provider's language. What no source tells is accepted.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.rerank_server import REASONS, Reply, Request

Pairs = list[tuple[Any, Any]]
_WORD = re.compile(r"\w+")


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def judge(query: str, text: str) -> float:
    """The share of the query's words that the text has, and a little that depends on both texts to break ties."""
    wanted = _words(query)
    found = len(wanted.intersection(_WORD.findall(text.lower()))) / len(wanted) if wanted else 0.0
    return 0.02 + 0.9 * found + 0.05 * zlib.crc32(f"{query}\0{text}".encode()) / 2**32


def logit(score: float) -> float:
    score = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(score / (1 - score))


def tokens(text: str) -> int:
    """As many tokens as a tokenizer might see."""
    return len(text) // 4 + 1


class Refused(Exception):  # noqa: N818 - it reads as a sentence
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Call:
    """One request, read: the documents as they were sent and as texts, and the results from scores to JSON."""

    body: dict[str, Any]
    request: Request
    query: str = ""
    documents: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    top: int | None = None
    pairs: Pairs = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return len(self.texts) * tokens(self.query) + sum(map(tokens, self.texts))

    @property
    def id(self) -> str:
        return f"{zlib.crc32(self.request.body):08x}"

    def at(self, index: Any, things: list[Any]) -> Any:
        """What belongs to the index, which a test may have made senseless."""
        sensible = isinstance(index, int) and 0 <= index < len(things)
        return things[index] if sensible else things[0] if things else None


class Fake:
    """Cohere's dialect, which most providers speak; the others say in their attributes how they differ.

    Args:
        key: The only key that is accepted; without one, any or none is.
        judge: From query and text to a score from 0 to 1.
        tamper: Changes the pairs of index and score just before they are written as JSON.
        variant: Attributes of the fake named in `variants`.
    """

    variants: tuple[str, ...] = ("limit",)
    path = "/v1/rerank"  # a regular expression
    header, scheme = "authorization", "Bearer "
    invalid = 400  # the status of a request that makes no sense
    model = "model"  # the field; None where there is none
    model_required = True
    documents = "documents"
    objects = False  # whether a document may be an object with a text
    rank_fields = False  # whether the client says which fields of an object to read
    empty_allowed = False
    limit: int | None = None  # most documents
    top: str | None = "top_n"
    least_top: int | None = None  # None where a smaller one means all
    foreign: tuple[str, ...] = ()  # fields that the provider is known not to have
    logits = False
    sorted = True
    index, score = "index", "relevance_score"

    def __init__(
        self,
        key: str | None = None,
        *,
        judge: Callable[[str, str], float] = judge,
        tamper: Callable[[Pairs], Pairs] | None = None,
        **variant: Any,
    ) -> None:
        self.key, self.judge, self.tamper = key, judge, tamper
        known = {name for kind in type(self).__mro__ for name in getattr(kind, "variants", ())}
        for name, value in variant.items():
            if name not in known:
                msg = f"{type(self).__name__} has no variant {name}, only {sorted(known)}"
                raise TypeError(msg)
            setattr(self, name, value)

    def __call__(self, request: Request) -> Reply:
        try:
            self.route(request)
            self.authorize(request)
            return self.answer(request)
        except Refused as refused:
            return self.error(refused.status, refused.message)

    # ---- errors -----------------------------------------------------------------------------------------------------

    def error(self, status: int, message: str) -> Reply:
        """The provider's error body for any status and message."""
        return Reply({"error": {"message": message, "type": _kind(status), "param": None, "code": status}}, status)

    def refuse(self, message: str) -> None:
        raise Refused(self.invalid, message)

    # ---- the request ------------------------------------------------------------------------------------------------

    def route(self, request: Request) -> None:
        if request.method != "POST" or not re.fullmatch(self.path, request.path):
            raise Refused(404, f"no such route: {request.method} {request.path}")

    def authorize(self, request: Request) -> None:
        if self.key is None:
            return
        given = request.headers.get(self.header, "")
        scheme = given[: len(self.scheme)]
        if scheme.lower() != self.scheme.lower() or given[len(self.scheme) :] != self.key:
            raise Refused(401, "no or wrong key")

    def answer(self, request: Request) -> Reply:
        call = self.read(request)
        call.pairs = self.rank(call)
        if self.tamper:
            call.pairs = self.tamper(call.pairs)
        call.results = [{self.index: i, self.score: score, **self.echo(call, i)} for i, score in call.pairs]
        body = self.wrap(call)
        return body if isinstance(body, Reply) else Reply(body)

    def body(self, request: Request) -> dict[str, Any]:
        try:
            body = request.json
        except ValueError:
            raise Refused(self.invalid, "the body is not JSON") from None
        if not isinstance(body, dict):
            self.refuse("the body is not an object")
        return body

    def read(self, request: Request) -> Call:
        call = Call(self.body(request), request)
        for name in self.foreign:
            if name in call.body:
                self.refuse(f"unknown field: {name}")
        if self.model:
            self.field(call.body, self.model, str, required=self.model_required)
        call.query = self.read_query(call)
        call.documents = self.read_list(call.body, self.documents)
        call.texts = [self.read_text(call, i, document) for i, document in enumerate(call.documents)]
        call.top = self.read_top(call)
        self.check(call)
        return call

    def field(self, body: Any, name: str, kind: type, *, required: bool = True) -> Any:
        """A field of the body; null is as good as none where the field is optional."""
        value = body.get(name) if isinstance(body, dict) else None
        if value is None and not required:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(f"{name} must be given, as {kind.__name__}")
        return value

    def read_query(self, call: Call) -> str:
        return self.field(call.body, "query", str)

    def read_list(self, body: Any, name: str) -> list[Any]:
        documents = self.field(body, name, list)
        if not documents and not self.empty_allowed:
            self.refuse(f"{name} must not be empty")
        if self.limit is not None and len(documents) > self.limit:
            self.refuse(f"{name} has {len(documents)} items, at most {self.limit} are allowed")
        return documents

    def read_text(self, call: Call, index: int, document: Any) -> str:
        if isinstance(document, str):
            return document
        if not self.objects or not isinstance(document, dict):
            self.refuse(f"{self.documents}[{index}] is not a string")
        names = (self.rank_fields and call.body.get("rank_fields")) or (["text"] if "text" in document else document)
        if any(name not in document for name in names):
            self.refuse(f"{self.documents}[{index}] lacks a field of {list(names)}")
        return " ".join(str(document[name]) for name in names)

    def read_top(self, call: Call) -> int | None:
        top = self.field(call.body, self.top, int, required=False) if self.top else None
        if top is not None and top < 1:
            if self.least_top is not None:
                self.refuse(f"{self.top} must be at least {self.least_top}")
            return None
        return top

    def check(self, call: Call) -> None:
        """Refuse what only this provider refuses."""

    # ---- the answer -------------------------------------------------------------------------------------------------

    def rank(self, call: Call) -> Pairs:
        scores = [self.judge(call.query, text) for text in call.texts]
        if self.gives_logits(call):
            scores = [logit(score) for score in scores]
        pairs = list(enumerate(scores))
        if self.sorted:
            pairs.sort(key=lambda pair: -pair[1])
        return pairs if call.top is None else pairs[: call.top]

    def gives_logits(self, call: Call) -> bool:
        return self.logits

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {}

    def wrap(self, call: Call) -> Any:
        return {"results": call.results}


def _phrase(status: int) -> str:
    return REASONS.get(status, "Unknown")


def _kind(status: int) -> str:
    """`NotFoundError` of 404."""
    known = {401: "AuthenticationError", 429: "RateLimitError"}
    return known.get(status) or _phrase(status).title().replace(" ", "") + "Error"


class Flat(Fake):
    """Errors with a ``detail``, which is a list where the request did not validate, as FastAPI does it."""

    invalid = 422

    def error(self, status: int, message: str) -> Reply:
        detail = [{"type": "value_error", "loc": ["body"], "msg": message}] if status == 422 else message
        return Reply({"detail": detail}, status)


class Echo(Fake):
    """Gives documents back as ``document``, when asked or by default, as a string or an object."""

    variants = ("document",)
    document = "object"  # or "str"
    echo_default = False

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        asked = self.field(call.body, "return_documents", bool, required=False)
        if not (self.echo_default if asked is None else asked):
            return {}
        text = call.at(index, call.texts)
        return {"document": text if self.document == "str" else {"text": text}}


def usage(call: Call) -> dict[str, int]:
    return {"prompt_tokens": call.tokens, "total_tokens": call.tokens}


# ---- A: the dialect of Cohere ---------------------------------------------------------------------------------------


class Cohere(Fake):
    path = "/v2/rerank"
    limit = 10_000
    least_top = 1
    foreign = ("return_documents", "rank_fields", "max_chunks_per_doc")  # of the first version

    def error(self, status: int, message: str) -> Reply:
        return Reply({"message": message, "id": "0b1c"}, status)

    def check(self, call: Call) -> None:
        if not call.query.strip():
            self.refuse("query must not be empty or only whitespace")
        for i, text in enumerate(call.texts):
            if not text.strip():
                self.refuse(f"document at index {i} must not be empty or only whitespace")

    def wrap(self, call: Call) -> Any:
        units = {"search_units": math.ceil(len(call.texts) / 100)}
        return {
            "id": call.id,
            "results": call.results,
            "meta": {"api_version": {"version": "2"}, "billed_units": units},
        }


class Azure(Cohere):
    """The key may come in either header; ``serverless=True`` is an endpoint of the older kind."""

    variants = ("serverless",)
    serverless = False
    path = "/providers/cohere/v2/rerank"

    def route(self, request: Request) -> None:
        if request.path == "/models/v1/rerank":
            raise Refused(500, "this deployment is not served here")
        if not self.serverless:
            super().route(request)
        elif request.method != "POST" or request.path != "/v1/rerank":
            raise Refused(404, f"no such route: {request.method} {request.path}")

    def authorize(self, request: Request) -> None:
        if request.headers.get("api-key", "") != self.key:
            super().authorize(request)


class Jina(Echo, Flat):
    """Gives the documents back unless told not to: ``document="str"`` since late 2025, an object before."""

    objects = True
    echo_default = True
    document = "str"

    def wrap(self, call: Call) -> Any:
        total = {"total_tokens": call.tokens}
        return {"model": call.body["model"], "object": "list", "usage": total, "results": call.results}


class Vllm(Fake):
    """``old_errors=True`` for the flat error object, ``reranker=False`` for a model that is none."""

    variants = ("old_errors", "reranker")
    old_errors = False
    reranker = True
    path = "/(v1/|v2/)?rerank"
    model_required = False

    def error(self, status: int, message: str) -> Reply:
        if status == 401:
            return Reply({"error": "Unauthorized"}, 401)
        inner = {"message": message, "type": _kind(status), "param": None, "code": status}
        return Reply({"object": "error", **inner} if self.old_errors else {"error": inner}, status)

    def content(self, value: Any) -> str:
        """The text of a string, or of an object with a list of contents."""
        if isinstance(value, str):
            return value
        parts = self.field(value, "content", list)
        return " ".join(part.get("text", "") for part in parts)

    def read_query(self, call: Call) -> str:
        return self.content(call.body.get("query"))

    def read_text(self, call: Call, index: int, document: Any) -> str:
        return self.content(document)

    def read_top(self, call: Call) -> int | None:
        if "top_n" in call.body and call.body["top_n"] is None:
            self.refuse("top_n: input should be a valid integer")
        return super().read_top(call)

    def check(self, call: Call) -> None:
        if not self.reranker:
            self.refuse("model does not support Rerank")

    def gives_logits(self, call: Call) -> bool:
        return self.field(call.body, "use_activation", bool, required=False) is False

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {"document": {"text": call.at(index, call.texts), "multi_modal": None}}

    def wrap(self, call: Call) -> Any:
        model = call.body.get("model") or "served-model"
        return {"id": f"score-{call.id}", "model": model, "usage": usage(call), "results": call.results}


class VllmScore(Vllm):
    """One query to many documents or as many queries as documents, answered in their order; with all older names."""

    path = "/(v1/)?score"
    score = "score"
    sorted = False
    top = None

    def read(self, request: Request) -> Call:
        call = Call(self.body(request), request)
        names = [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")]
        pair = next(((a, b) for a, b in names if a in call.body and b in call.body), None)
        if pair is None:
            self.refuse("queries and documents are required")
        queries, documents = (value if isinstance(value, list) else [value] for value in map(call.body.get, pair))
        if not queries or not documents or len(queries) not in {1, len(documents)}:
            self.refuse("give one query, or as many as documents, and at least one document")
        call.texts = [self.content(document) for document in documents]
        call.documents = [self.content(query) for query in queries] * (len(documents) if len(queries) == 1 else 1)
        self.check(call)
        return call

    def rank(self, call: Call) -> Pairs:
        scores = [self.judge(query, text) for query, text in zip(call.documents, call.texts, strict=True)]
        return list(enumerate(map(logit, scores) if self.gives_logits(call) else scores))

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {"object": "score"}

    def wrap(self, call: Call) -> Any:
        model = call.body.get("model") or "served-model"
        head = {"id": f"score-{call.id}", "object": "list", "created": 0, "model": model}
        return {**head, "data": call.results, "usage": usage(call)}


class Infinity(Flat):
    """``prefix="/v1"`` puts the route where many deployments do."""

    variants = ("prefix",)
    prefix = ""
    model_required = False
    limit = 2048
    least_top = 1
    longest = 122_880

    @property
    def path(self) -> str:  # type: ignore[override]
        return f"{re.escape(self.prefix)}/rerank"

    def error(self, status: int, message: str) -> Reply:
        if status == 401:
            return Reply({"detail": "Unauthorized"}, 401, {"WWW-Authenticate": "Bearer"})
        if status in {404, 422}:
            return super().error(status, message)
        return Reply({"error": {"message": message, "type": None, "param": None, "code": status}}, status)

    def check(self, call: Call) -> None:
        if any(len(text) > self.longest for text in [call.query, *call.texts]):
            self.refuse(f"string should have at most {self.longest} characters")
        call.query, call.texts = call.query.strip(), [text.strip() for text in call.texts]

    def gives_logits(self, call: Call) -> bool:
        return bool(self.field(call.body, "raw_scores", bool, required=False))

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        asked = self.field(call.body, "return_documents", bool, required=False)
        return {"document": call.at(index, call.texts) if asked else None}

    def wrap(self, call: Call) -> Any:
        model = call.body.get("model") or "default/not-specified"
        tail = {"usage": usage(call), "id": f"infinity-{call.id}", "created": 1_760_000_000}
        return {"object": "rerank", "results": call.results, "model": model, **tail}


class LlamaCpp(Fake):
    """Raw logits.

    ``old=True`` neither sorts nor cuts; ``unit=True`` is a Qwen3 model with scores from 0 to 1; ``max_characters`` is
    the length at which a document fails; ``reranking=False`` is a server that was started without ``--reranking``.
    """

    variants = ("old", "unit", "max_characters", "reranking")
    old = unit = False
    max_characters: int | None = None
    reranking = True
    path = "(/v1)?/(rerank|reranking)"
    model_required = False

    def error(self, status: int, message: str) -> Reply:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        kinds.update({501: "not_supported_error", 503: "unavailable_error"})
        return Reply({"error": {"code": status, "message": message, "type": kinds.get(status, "server_error")}}, status)

    def read(self, request: Request) -> Call:
        if not self.reranking:
            raise Refused(501, "This server does not support reranking. Start it with `--reranking`")
        return super().read(request)

    def like_tei(self, call: Call) -> bool:
        return "texts" in call.body

    def read_list(self, body: Any, name: str) -> list[Any]:
        return super().read_list(body, "texts" if "texts" in body else name)

    def read_top(self, call: Call) -> int | None:
        top = self.field(call.body, "top_n", int, required=False)
        return None if self.old or top is None else max(top, 0)

    def check(self, call: Call) -> None:
        for text in call.texts:
            if self.max_characters is not None and len(text) > self.max_characters:
                message = f"input ({tokens(call.query + text)} tokens) is too large to process. increase the batch size"
                raise Refused(500, message)

    def gives_logits(self, call: Call) -> bool:
        return not self.unit

    def rank(self, call: Call) -> Pairs:
        ranked = super().rank(call)
        return sorted(ranked) if self.old else ranked

    def wrap(self, call: Call) -> Any:
        if not self.like_tei(call):
            model = call.body.get("model") or "served-model"
            return {"model": model, "object": "list", "usage": usage(call), "results": call.results}
        texts = bool(call.body.get("return_text"))
        return [
            {"index": i, "score": score, **({"text": call.at(i, call.texts)} if texts else {})}
            for i, score in call.pairs
        ]


class LocalAI(Fake):
    """``loading=n`` answers the first n requests with 503, as while a model loads."""

    variants = ("loading", "retry_after")
    loading = 0
    retry_after = "1"
    least_top = 1
    empty_allowed = True

    def error(self, status: int, message: str) -> Reply:
        if status == 422:
            return Reply(message, 422)
        return Reply({"error": {"code": status, "message": message, "type": ""}}, status)

    def answer(self, request: Request) -> Reply:
        if self.loading > 0:
            self.loading -= 1
            reply = self.error(503, "the model is loading")
            reply.headers["Retry-After"] = self.retry_after
            return reply
        return super().answer(request)

    def read_top(self, call: Call) -> int | None:
        top = self.field(call.body, "top_n", int, required=False)
        if top is not None and top < 1:
            raise Refused(422, "top_n - should be greater than or equal to 1")
        return top

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {"document": {"text": call.at(index, call.texts)}}

    def wrap(self, call: Call) -> Any:
        return {"model": call.body["model"], "usage": usage(call), "results": call.results or None}


class Xinference(Echo, Flat):
    invalid = 400
    document = "object"

    def wrap(self, call: Call) -> Any:
        meta = {"api_version": None, "billed_units": None, "tokens": None, "warnings": None}
        return {"id": call.id, "results": call.results, "meta": meta}


class Together(Echo):
    objects = rank_fields = True

    def wrap(self, call: Call) -> Any:
        total = {"prompt_tokens": call.tokens, "completion_tokens": 0, "total_tokens": call.tokens}
        body = {"object": "rerank", "id": call.id, "model": call.body["model"]}
        return {**body, "results": call.results, "usage": total}


class ZeroEntropy(Flat):
    """``budget`` is how many bytes are served fast; then it takes ``slow`` seconds, or 429 if only fast will do."""

    variants = ("budget", "slow", "max_payload")
    budget: float = math.inf
    slow = 12.0
    max_payload = 5_000_000
    path = "/v1/models/rerank"
    used = 0

    def read(self, request: Request) -> Call:
        if len(request.body) > self.max_payload:
            raise Refused(413, "the payload is too large")
        return super().read(request)

    def check(self, call: Call) -> None:
        if self.field(call.body, "latency", str, required=False) not in {None, "fast", "slow"}:
            self.refuse("latency must be fast or slow")

    def wrap(self, call: Call) -> Any:
        size = sum(150 + len(call.query.encode()) + len(text.encode()) for text in call.texts)
        latency = call.body.get("latency")
        mode = latency or "fast"
        if self.used + size > self.budget:
            if latency == "fast":
                raise Refused(429, "rate limit of bytes per minute exceeded")
            mode = "slow"
        self.used += size
        wait = self.slow if mode == "slow" else 0
        times = {"actual_latency_mode": mode, "e2e_latency": wait + 0.05, "inference_latency": 0.05}
        body = {"results": call.results, "total_bytes": size, "total_tokens": call.tokens, **times}
        return Reply(body, wait=wait)


class Contextual(Flat):
    def check(self, call: Call) -> None:
        self.field(call.body, "instruction", str, required=False)
        metadata = self.field(call.body, "metadata", list, required=False)
        if metadata is not None and len(metadata) != len(call.texts):
            self.refuse("metadata must be as long as documents")
        if any(not isinstance(item, str) for item in metadata or []):
            self.refuse("metadata must be strings")
        if call.tokens > 400_000:
            self.refuse("more than 400,000 tokens")

    def rank(self, call: Call) -> Pairs:
        return [(i, round(score, 8)) for i, score in super().rank(call)]


class DashScopeCompatible(Echo):
    path = "/compatible-api/v1/reranks"
    limit = 500

    def error(self, status: int, message: str) -> Reply:
        codes = {400: "InvalidParameter", 401: "InvalidApiKey", 403: "AccessDenied", 404: "NotFound", 429: "Throttling"}
        return Reply({"code": codes.get(status, "InternalError"), "message": message, "request_id": "7a9d"}, status)

    def wrap(self, call: Call) -> Any:
        body = {"object": "list", "id": call.id, "model": call.body["model"]}
        return {**body, "results": call.results, "usage": {"total_tokens": call.tokens}}


class SiliconFlow(Echo):
    """``meta=True`` reports the usage as newer answers do."""

    variants = ("meta",)
    meta = False
    least_top = 1

    def error(self, status: int, message: str) -> Reply:
        return Reply({"code": 20_000 + status, "message": message, "data": None}, status)

    def wrap(self, call: Call) -> Any:
        count = {"input_tokens": call.tokens, "output_tokens": 0}
        return {
            "id": call.id,
            "results": call.results,
            **({"meta": {"tokens": count}} if self.meta else {"tokens": count}),
        }


class OpenRouter(Echo):
    path = "/api/v1/rerank"
    objects = echo_default = True
    least_top = 1

    def error(self, status: int, message: str) -> Reply:
        return Reply({"error": {"code": status, "message": message}}, status)

    def wrap(self, call: Call) -> Any:
        total = {"search_units": math.ceil(len(call.texts) / 100), "total_tokens": call.tokens, "cost": 0.001}
        body = {"id": call.id, "model": call.body["model"], "provider": "Cohere"}
        return {**body, "results": call.results, "usage": total}


class Novita(Echo):
    path = "/openai/v1/rerank"

    def error(self, status: int, message: str) -> Reply:
        return Reply({"code": status, "reason": _kind(status), "message": message, "metadata": {}}, status)

    def wrap(self, call: Call) -> Any:
        return {"id": call.id, "model": call.body["model"], "results": call.results, "usage": usage(call)}


# ---- B: a list called data ------------------------------------------------------------------------------------------


class Voyage(Flat):
    """``max_tokens`` is the most for one query and document, which count only where truncation is off."""

    variants = ("max_tokens", "max_total_tokens")
    max_tokens = 32_000
    max_total_tokens = 600_000
    invalid = 400
    limit = 1000
    top = "top_k"

    def check(self, call: Call) -> None:
        if self.field(call.body, "truncation", bool, required=False) is False:
            for i, text in enumerate(call.texts):
                if tokens(call.query) + tokens(text) > self.max_tokens:
                    self.refuse(f"documents[{i}] has too many tokens, and truncation is false")
        count = tokens(call.query)
        if sum(count + min(tokens(text), self.max_tokens - count) for text in call.texts) > self.max_total_tokens:
            self.refuse(f"more than {self.max_total_tokens} tokens")

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        asked = self.field(call.body, "return_documents", bool, required=False)
        return {"document": call.at(index, call.texts)} if asked else {}

    def wrap(self, call: Call) -> Any:
        total = {"total_tokens": call.tokens}
        return {"object": "list", "data": call.results, "model": call.body["model"], "usage": total}


class Fireworks(Echo):
    path = "/inference/v1/rerank"
    document = "str"

    def wrap(self, call: Call) -> Any:
        return {"object": "list", "model": call.body["model"], "data": call.results, "usage": usage(call)}


class Mixedbread(Fake):
    path = "/v1/reranking"
    model_required = False
    documents = "input"
    objects = rank_fields = True
    limit = 1000
    top = "top_k"
    score = "score"

    def error(self, status: int, message: str) -> Reply:
        return Reply({"message": message, "code": status}, status)

    def check(self, call: Call) -> None:
        if not 1 <= len(call.query) <= 32_000:
            self.refuse("query must have from 1 to 32000 characters")

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        asked = self.field(call.body, "return_input", bool, required=False)
        return {"input": call.at(index, call.documents) if asked else None, "object": "rank_result"}

    def wrap(self, call: Call) -> Any:
        body = {"object": "list", "model": call.body.get("model") or "mixedbread-ai/mxbai-rerank-large-v2"}
        tail = {"top_k": call.top or len(call.texts), "return_input": bool(call.body.get("return_input"))}
        return {**body, "data": call.results, "usage": usage(call), **tail}


class Pinecone(Fake):
    """Up to 100 documents, or 200 for a model of Cohere's; ``max_tokens`` count where truncate is NONE."""

    variants = ("max_tokens",)
    max_tokens = 1024
    path = "/rerank"
    header, scheme = "api-key", ""
    objects = rank_fields = True
    score = "score"

    def error(self, status: int, message: str) -> Reply:
        codes = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "FORBIDDEN", 404: "NOT_FOUND"}
        codes.update({429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"})
        return Reply({"error": {"code": codes.get(status, "INTERNAL"), "message": message}, "status": status}, status)

    def answer(self, request: Request) -> Reply:
        if not re.fullmatch(r"\d{4}-\d{2}", request.headers.get("x-pinecone-api-version", "")):
            self.refuse("the header X-Pinecone-Api-Version is missing")
        return super().answer(request)

    def read_text(self, call: Call, index: int, document: Any) -> str:
        if not isinstance(document, dict):
            self.refuse(f"documents[{index}] must be an object")
        if "text" not in document and not call.body.get("rank_fields"):
            self.refuse(f"documents[{index}] lacks the field text")
        return super().read_text(call, index, document)

    def check(self, call: Call) -> None:
        by_cohere = call.body["model"].startswith("cohere")
        limit = self.limit or (200 if by_cohere else 100)
        if len(call.texts) > limit:
            self.refuse(f"documents has {len(call.texts)} items, at most {limit} are allowed")
        parameters = self.field(call.body, "parameters", dict, required=False) or {}
        if by_cohere and "truncate" in parameters:
            self.refuse("the model does not know the parameter truncate")
        if parameters.get("truncate", "END") not in {"END", "NONE"}:
            self.refuse("truncate must be END or NONE")
        longest = max(map(tokens, call.texts)) + tokens(call.query)
        if parameters.get("truncate") == "NONE" and longest > self.max_tokens:
            self.refuse(f"a document has {longest} tokens with the query, at most {self.max_tokens} are allowed")

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        asked = self.field(call.body, "return_documents", bool, required=False)
        return {} if asked is False else {"document": call.at(index, call.documents)}

    def wrap(self, call: Call) -> Any:
        return {"model": call.body["model"], "data": call.results, "usage": {"rerank_units": 1}}


# ---- C: a bare list -------------------------------------------------------------------------------------------------


class Tei(Fake):
    """``strict=False`` ignores fields that TEI does not have; ``info=False`` has no ``/info``."""

    variants = ("max_client_batch_size", "max_payload", "max_characters", "reranker", "strict", "info")
    max_client_batch_size = 32
    max_payload = 2_000_000
    max_characters: int | None = None
    reranker = strict = info = True
    path = "/(rerank|invocations)?"
    invalid = 422
    model = None  # type: ignore[assignment]
    documents = "texts"
    empty_allowed = True
    top = None
    score = "score"

    def error(self, status: int, message: str) -> Reply:
        if status == 401:
            return Reply(b"", 401)
        kinds = {400: "Empty", 424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"}
        return Reply({"error": message, "error_type": kinds.get(status, "Validation")}, status)

    def __call__(self, request: Request) -> Reply:
        if self.info and request.method == "GET" and request.path == "/info":
            kind = {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
            sizes = {"max_client_batch_size": self.max_client_batch_size, "max_input_length": 512}
            return Reply({"model_id": "BAAI/bge-reranker-base", "model_type": kind, **sizes, "auto_truncate": True})
        return super().__call__(request)

    def read(self, request: Request) -> Call:
        if len(request.body) > self.max_payload:
            raise Refused(413, "length limit exceeded")
        self.foreign = ("model", "top_n", "top_k", "documents", "return_documents") if self.strict else ()
        return super().read(request)

    def check(self, call: Call) -> None:
        if not call.texts:
            raise Refused(400, "`texts` cannot be empty")
        if len(call.texts) > self.max_client_batch_size:
            limit = self.max_client_batch_size
            self.refuse(f"batch size {len(call.texts)} > maximum allowed batch size {limit}")
        for name in ("truncate", "raw_scores", "return_text"):
            self.field(call.body, name, bool, required=False)
        longest = max(map(len, call.texts))
        if call.body.get("truncate") is False and self.max_characters is not None and longest > self.max_characters:
            self.refuse("`inputs` must have less tokens")
        if not self.reranker:
            raise Refused(424, "model is not a re-ranker model")

    def gives_logits(self, call: Call) -> bool:
        return bool(call.body.get("raw_scores"))

    def rank(self, call: Call) -> Pairs:
        ranked = sorted(super().rank(call))
        ranked.sort(key=lambda pair: pair[1])
        return ranked[::-1]  # so ties come in reverse

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {"text": call.at(index, call.texts)} if call.body.get("return_text") else {}

    def wrap(self, call: Call) -> Any:
        count = {"x-compute-characters": str(sum(map(len, call.texts))), "x-compute-tokens": str(call.tokens)}
        return Reply(
            call.results, headers={"x-compute-type": "cpu", "x-compute-time": "3", "x-total-time": "3", **count}
        )


class Sglang(Fake):
    """``raw=True`` for a model with raw scores."""

    variants = ("raw",)
    raw = False
    model_required = False
    least_top = 1
    score = "score"

    def error(self, status: int, message: str) -> Reply:
        return Reply(
            {"object": "error", "message": message, "type": _kind(status), "param": None, "code": status}, status
        )

    def check(self, call: Call) -> None:
        if not call.query.strip():
            self.refuse("query cannot be empty")

    def gives_logits(self, call: Call) -> bool:
        return self.raw

    def wrap(self, call: Call) -> Any:
        documents = call.body.get("return_documents") is not False
        return [
            {
                "score": result["score"],
                **({"document": call.at(result["index"], call.texts)} if documents else {}),
                "index": result["index"],
                "meta_info": {"id": call.id, "prompt_tokens": tokens(call.query)},
            }
            for result in call.results
        ]


# ---- D: Isaacus, E: NVIDIA ------------------------------------------------------------------------------------------


class Isaacus(Fake):
    variants = ("max_characters",)
    max_characters = 60_000  # of a query
    path = "/v1/rerankings"
    documents = "texts"
    least_top = 1
    foreign = ("return_documents", "documents")
    score = "score"

    def error(self, status: int, message: str) -> Reply:
        problem = {"type": "about:blank", "title": _phrase(status), "status": status, "detail": message}
        headers = {"Content-Type": "application/problem+json"}
        return Reply({**problem, "instance": None}, status, headers)

    def check(self, call: Call) -> None:
        if not call.query.strip() or len(call.query) > self.max_characters:
            self.refuse("query is blank or too long")
        for i, text in enumerate(call.texts):
            if not text.strip():
                self.refuse(f"texts[{i}] is blank")
        self.field(call.body, "is_iql", bool, required=False)
        self.field(call.body, "chunking_options", dict, required=False)
        if call.body.get("scoring_method", "auto") not in {"auto", "chunk_max", "chunk_avg", "chunk_min"}:
            self.refuse("unknown scoring_method")

    def wrap(self, call: Call) -> Any:
        return {"results": call.results, "usage": {"input_tokens": call.tokens}}


class Nvidia(Fake):
    """Logits, about half of them negative.

    ``pending=n`` answers 202 at first; the n-th poll of the status URL gets the result, and those before it 202 again.
    langchain-nvidia polls ``https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/{NVCF-REQID}`` (_common.py, polling_url_tmpl
    and _wait), a host of its own, with the key, until the status is not 202; other clients poll ``/v1/status/{id}`` of
    the host they called. Both paths are served. ``max_characters`` count where truncate is NONE, which is the default of
    ``/v1/ranking`` only; ``bare=True`` explains a 401 in WWW-Authenticate alone.
    """

    variants = ("pending", "max_characters", "bare")
    pending = 0
    max_characters: int | None = None
    bare = False
    path = "/v1/ranking|/v1/retrieval/([^/]+/[^/]+)/reranking"
    invalid = 422
    documents = "passages"
    limit = 512
    top = None
    foreign = ("top_n", "top_k", "documents")
    logits = True
    score = "logit"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waiting: dict[str, tuple[int, Reply]] = {}

    def error(self, status: int, message: str) -> Reply:
        headers = {"WWW-Authenticate": f'Bearer error="{message}"'} if status == 401 else {}
        if self.bare and status == 401:
            return Reply(b"", 401, headers)
        title = _phrase(status)
        return Reply({"status": status, "title": title, "detail": message, "requestId": "5f0e"}, status, headers)

    def __call__(self, request: Request) -> Reply:
        status = re.fullmatch("(?:/v2/nvcf/pexec|/v1)/status/([^/]+)", request.path)
        if not (request.method == "GET" and status and status[1] in self.waiting):
            return super().__call__(request)
        try:
            self.authorize(request)
        except Refused as refused:
            return self.error(refused.status, refused.message)
        left, reply = self.waiting.pop(status[1])
        if left <= 1:
            return reply
        self.waiting[status[1]] = left - 1, reply
        return self.wait_for(status[1])

    def wait_for(self, name: str) -> Reply:
        return Reply(b"", 202, {"NVCF-REQID": name, "NVCF-STATUS": "pending-evaluation"})

    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        if not self.pending:
            return reply
        name = f"{len(self.waiting):04x}-{zlib.crc32(request.body):08x}"
        self.waiting[name] = self.pending, reply
        return self.wait_for(name)

    def read_query(self, call: Call) -> str:
        return self.field(self.field(call.body, "query", dict), "text", str)

    def read_text(self, call: Call, index: int, document: Any) -> str:
        return self.field(document, "text", str)

    def check(self, call: Call) -> None:
        hosted = re.fullmatch(self.path, call.request.path)[1]  # type: ignore[index]
        if hosted and hosted != call.body["model"].replace(".", "_"):
            raise Refused(404, f"no such model: {hosted}")
        truncate = call.body.get("truncate") or ("END" if hosted else "NONE")
        if truncate not in {"END", "NONE"}:
            self.refuse("truncate must be END or NONE")
        longest = max(map(len, call.texts))
        if truncate == "NONE" and self.max_characters is not None and longest > self.max_characters:
            raise Refused(400, "input length exceeds the maximum of the model")

    def wrap(self, call: Call) -> Any:
        return {"rankings": call.results, "usage": usage(call)}


# ---- F: scores in the order of the documents ------------------------------------------------------------------------


class DeepInfra(Fake):
    path = "/v1/inference/.+"
    model = None  # type: ignore[assignment]
    top = None
    sorted = False

    def error(self, status: int, message: str) -> Reply:
        return Reply({"detail": {"error": message}}, status)

    def read_query(self, call: Call) -> str:
        queries = self.field(call.body, "queries", list)
        if len(queries) != len(self.field(call.body, "documents", list)):
            self.refuse("queries must be as many as documents")
        if any(not isinstance(query, str) for query in queries):
            self.refuse("queries must be strings")
        return queries[0] if queries else ""

    def rank(self, call: Call) -> Pairs:
        return [(i, self.judge(call.body["queries"][i], text)) for i, text in enumerate(call.texts)]

    def wrap(self, call: Call) -> Any:
        status = {"status": "succeeded", "runtime_ms": 20, "cost": 0.0001, "tokens_input": call.tokens}
        body = {"scores": [score for _, score in call.pairs], "input_tokens": call.tokens, "request_id": call.id}
        return {**body, "inference_status": status}


class Signed(Fake):
    """Looks at the form of a signature and at the hash of the body, if there is one; the key is the access key's id."""

    date = hashed = ""  # names of the headers
    form = ""  # of the Authorization header

    def authorize(self, request: Request) -> None:
        if self.key is None:
            return
        given = re.fullmatch(self.form, request.headers.get("authorization", ""))
        if not given or given["key"] != self.key:
            raise Refused(403, "the request is not signed with a known key")
        signed = given["headers"].split(";")
        if not re.fullmatch(r"\d{8}T\d{6}Z", request.headers.get(self.date, "")):
            raise Refused(403, f"the header {self.date} is missing")
        if self.date not in signed or "host" not in signed:
            raise Refused(403, f"the headers host and {self.date} must be signed")
        digest = hashlib.sha256(request.body).hexdigest()
        if request.headers.get(self.hashed, digest) != digest:
            raise Refused(403, f"the header {self.hashed} does not fit the body")


class Volcengine(Signed):
    """``quiet=True`` gives errors with the status 200, so that only their ``code`` tells."""

    variants = ("quiet",)
    quiet = False
    path = "/api/knowledge/service/rerank"
    date, hashed = "x-date", "x-content-sha256"
    form = r"HMAC-SHA256 Credential=(?P<key>[^/]+)/[^,]+, ?SignedHeaders=(?P<headers>[^,]+), ?Signature=[0-9a-f]{64}"
    model, model_required = "rerank_model", False
    documents = "datas"
    limit = 200
    top = None
    sorted = False

    def error(self, status: int, message: str) -> Reply:
        codes = {400: 1_000_003, 401: 1_000_001, 403: 1_000_001, 429: 300_004}
        body = {"code": codes.get(status, 1_000_028), "message": message, "request_id": "02175"}
        return Reply(body, 200 if self.quiet else status)

    def read_query(self, call: Call) -> str:
        return ""

    def read_text(self, call: Call, index: int, document: Any) -> str:
        self.field(document, "query", str)
        self.field(document, "title", str, required=False)
        return self.field(document, "content", str)

    def rank(self, call: Call) -> Pairs:
        return [(i, self.judge(data["query"], data["content"])) for i, data in enumerate(call.documents)]

    def wrap(self, call: Call) -> Any:
        data = {"scores": [score for _, score in call.pairs], "token_usage": call.tokens}
        return {"code": 0, "message": "success", "request_id": call.id, "data": data}


# ---- G: nested ------------------------------------------------------------------------------------------------------


class DashScope(DashScopeCompatible):
    path = "/api/v1/services/rerank/text-rerank/text-rerank"

    def read(self, request: Request) -> Call:
        body = self.body(request)
        self.field(body, "model", str)
        inner = self.field(body, "input", dict)
        options = self.field(body, "parameters", dict, required=False) or {}
        call = Call({**options, **inner, "model": body["model"]}, request)
        call.query = self.field(inner, "query", str)
        call.documents = self.read_list(inner, "documents")
        call.texts = [self.read_text(call, i, document) for i, document in enumerate(call.documents)]
        call.top = self.read_top(Call(options, request))
        return call

    def wrap(self, call: Call) -> Any:
        usage = {"total_tokens": call.tokens}
        return {"output": {"results": call.results}, "usage": usage, "request_id": call.id}


class Watsonx(Fake):
    path = "/ml/v1/text/rerank"
    model = "model_id"
    documents = "inputs"
    top = None
    logits = True
    score = "score"

    def error(self, status: int, message: str) -> Reply:
        code = _phrase(status).lower().replace(" ", "_")
        errors = [{"code": code, "message": message, "more_info": "https://cloud.ibm.com/apidocs/watsonx-ai"}]
        return Reply({"errors": errors, "trace": "4c2f", "status_code": status}, status)

    def read_text(self, call: Call, index: int, document: Any) -> str:
        return self.field(document, "text", str)

    def check(self, call: Call) -> None:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", call.request.query.get("version", "")):
            self.refuse("the query parameter version is missing")
        if ("project_id" in call.body) == ("space_id" in call.body):
            self.refuse("give one of project_id and space_id")
        options = (self.field(call.body, "parameters", dict, required=False) or {}).get("return_options") or {}
        call.top = self.field(options, "top_n", int, required=False)
        call.body["return_options"] = options

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {"input": call.at(index, call.documents)} if call.body["return_options"].get("inputs") else {}

    def wrap(self, call: Call) -> Any:
        return {"model_id": call.body["model_id"], "results": call.results, "input_token_count": call.tokens}


class Elasticsearch(Fake):
    path = "/_inference/rerank/[^/]+"
    scheme = "ApiKey "
    model = None  # type: ignore[assignment]
    documents = "input"

    def error(self, status: int, message: str) -> Reply:
        cause = {"type": "status_exception" if status != 401 else "security_exception", "reason": message}
        body = {"error": {"root_cause": [cause], **cause}, "status": status}
        return Reply(body, status, {"X-Elastic-Product": "Elasticsearch"})

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        return {"text": call.at(index, call.texts)} if call.body.get("return_documents") else {}

    def wrap(self, call: Call) -> Any:
        return Reply({"rerank": call.results}, headers={"X-Elastic-Product": "Elasticsearch"})


class Cloudflare(Fake):
    path = "(/client/v4/accounts/[^/]+)?/ai/run/@cf/.+"
    model = None  # type: ignore[assignment]
    documents = "contexts"
    top = "top_k"
    index, score = "id", "score"

    def error(self, status: int, message: str) -> Reply:
        code = {401: 10_000, 404: 7_000, 429: 3_036}.get(status, 5_006)
        return Reply(
            {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}, status
        )

    def read_text(self, call: Call, index: int, document: Any) -> str:
        return self.field(document, "text", str)

    def wrap(self, call: Call) -> Any:
        return {"result": {"response": call.results}, "success": True, "errors": [], "messages": []}


# ---- H: clouds ------------------------------------------------------------------------------------------------------


class Vertex(Fake):
    """``user_project`` is what the header X-Goog-User-Project must say."""

    variants = ("user_project",)
    user_project: str | None = None
    path = "/v1/projects/[^/]+/locations/[^/]+/rankingConfigs/[^/:]+:rank"
    model_required = False
    documents = "records"
    limit = 200
    top = "topN"
    index, score = "id", "score"

    def error(self, status: int, message: str) -> Reply:
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
        names.update({429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"})
        return Reply({"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}}, status)

    def answer(self, request: Request) -> Reply:
        if self.user_project is not None and request.headers.get("x-goog-user-project") != self.user_project:
            raise Refused(403, "the header X-Goog-User-Project is missing or wrong")
        return super().answer(request)

    def read_text(self, call: Call, index: int, document: Any) -> str:
        self.field(document, "id", str)
        title = self.field(document, "title", str, required=False)
        content = self.field(document, "content", str, required=False)
        if title is None and content is None:
            self.refuse(f"records[{index}] has neither title nor content")
        return content if content is not None else title

    def check(self, call: Call) -> None:
        if len({record["id"] for record in call.documents}) < len(call.documents):
            self.refuse("ids of records must differ")

    def rank(self, call: Call) -> Pairs:
        return [(call.documents[i]["id"], score) for i, score in super().rank(call)]

    def echo(self, call: Call, index: Any) -> dict[str, Any]:
        if call.body.get("ignoreRecordDetailsInResponse"):
            return {}
        record = next((record for record in call.documents if record["id"] == index), call.documents[0])
        return {name: record[name] for name in ("title", "content") if name in record}

    def wrap(self, call: Call) -> Any:
        return {"records": call.results}


class Bedrock(Signed):
    """``page=n`` gives n results at a time and a nextToken for the rest."""

    variants = ("page",)
    page: int | None = None
    path = "/rerank"
    date, hashed = "x-amz-date", "x-amz-content-sha256"
    form = (
        r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/[^/]+/bedrock/aws4_request, ?"
        r"SignedHeaders=(?P<headers>[^,]+), ?Signature=[0-9a-f]{64}"
    )
    model = None  # type: ignore[assignment]
    documents = "sources"
    limit = 1000
    longest = 32_000
    top = None
    score = "relevanceScore"

    def error(self, status: int, message: str) -> Reply:
        names = {400: "Validation", 401: "AccessDenied", 403: "AccessDenied", 404: "ResourceNotFound", 409: "Conflict"}
        names.update({424: "DependencyFailed", 429: "Throttling", 502: "BadGateway"})
        kind = names.get(status, "InternalServer") + "Exception"
        return Reply({"message": message}, status, {"x-amzn-ErrorType": kind, "x-amzn-RequestId": "9e1b"})

    def read_query(self, call: Call) -> str:
        queries = self.field(call.body, "queries", list)
        if len(queries) != 1 or self.field(queries[0], "type", str) != "TEXT":
            self.refuse("give exactly one query of the type TEXT")
        return self.field(self.field(queries[0], "textQuery", dict), "text", str)

    def read_text(self, call: Call, index: int, document: Any) -> str:
        inner = self.field(document, "inlineDocumentSource", dict)
        if document.get("type") != "INLINE" or inner.get("type") not in {"TEXT", "JSON"}:
            self.refuse(f"sources[{index}] has an unknown type")
        if inner["type"] == "JSON":
            return json.dumps(self.field(inner, "jsonDocument", dict), ensure_ascii=False)
        text = self.field(self.field(inner, "textDocument", dict), "text", str)
        if not 1 <= len(text) <= self.longest:
            self.refuse(f"the text of sources[{index}] must have from 1 to {self.longest} characters")
        return text

    def check(self, call: Call) -> None:
        configuration = self.field(call.body, "rerankingConfiguration", dict)
        if configuration.get("type") != "BEDROCK_RERANKING_MODEL":
            self.refuse("rerankingConfiguration has an unknown type")
        inner = self.field(configuration, "bedrockRerankingConfiguration", dict)
        arn = self.field(self.field(inner, "modelConfiguration", dict), "modelArn", str)
        if not re.fullmatch(r"arn:aws[^:]*:bedrock:[^:]+:\d*:.+", arn):
            self.refuse("modelArn is no ARN")
        call.top = self.field(inner, "numberOfResults", int, required=False)
        if call.top is not None and not 1 <= call.top <= 1000:
            self.refuse("numberOfResults must be from 1 to 1000")

    def wrap(self, call: Call) -> Any:
        token = self.field(call.body, "nextToken", str, required=False) or "from:0"
        if not re.fullmatch(r"from:\d+", token):
            self.refuse("nextToken is unknown")
        start = int(token.removeprefix("from:"))
        end = start + (self.page or len(call.results) or 1)
        following = f"from:{end}" if end < len(call.results) else None
        return {"results": call.results[start:end], "nextToken": following}


FAKES: Mapping[str, type[Fake]] = {
    "cohere": Cohere,
    "azure": Azure,
    "jina": Jina,
    "voyage": Voyage,
    "pinecone": Pinecone,
    "nvidia": Nvidia,
    "tei": Tei,
    "vllm": Vllm,
    "vllm-score": VllmScore,
    "sglang": Sglang,
    "infinity": Infinity,
    "llamacpp": LlamaCpp,
    "localai": LocalAI,
    "xinference": Xinference,
    "mixedbread": Mixedbread,
    "together": Together,
    "isaacus": Isaacus,
    "zeroentropy": ZeroEntropy,
    "contextual": Contextual,
    "dashscope": DashScope,
    "dashscope-compatible": DashScopeCompatible,
    "volcengine": Volcengine,
    "siliconflow": SiliconFlow,
    "fireworks": Fireworks,
    "deepinfra": DeepInfra,
    "openrouter": OpenRouter,
    "watsonx": Watsonx,
    "vertex": Vertex,
    "bedrock": Bedrock,
    "elasticsearch": Elasticsearch,
    "cloudflare": Cloudflare,
    "novita": Novita,
}
