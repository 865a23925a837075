"""Reranking by an endpoint on the network: a provider's, or a server of one's own."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator
from typing_extensions import Self, override

from langchain_rerankkit.errors import EndpointError
from langchain_rerankkit.hosted.addresses import address_of, check_url, endpoint_url, host_of, is_loopback, is_public
from langchain_rerankkit.hosted.auth import base_for, is_key, key_for, key_header, signer_for
from langchain_rerankkit.hosted.connections import WireSettings
from langchain_rerankkit.hosted.diagnosis import Diagnosis, diagnosis
from langchain_rerankkit.hosted.endpoint import Endpoint, Steps
from langchain_rerankkit.hosted.limits import Breaker, Pace
from langchain_rerankkit.hosted.profiles import Profile, load_profile
from langchain_rerankkit.hosted.query import Asked, Spent, batches
from langchain_rerankkit.hosted.redaction import Secrets
from langchain_rerankkit.hosted.templates import leaves
from langchain_rerankkit.hosted.wire import Job, Wire
from langchain_rerankkit.passages import Chunks
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.records import Answer, DetailedScores, ScoreRequest, with_details
from langchain_rerankkit.rerankers.chunking import ChunkingReranker

__all__ = ["HostedReranker"]

_AGENT = "langchain-rerankkit"
_CHUNK = 2000  # characters: about 500 tokens of English, which every reranker reads


@dataclass
class _Ready:
    """What `HostedReranker._load` makes: what to say, and who says it."""

    endpoint: Endpoint
    wire: Wire


@dataclass
class _Sent:
    """One query on its way, and what of it each document has."""

    asked: Asked
    chunks: Chunks
    requests: int = 1


class HostedReranker(ChunkingReranker):
    """Reranks by a rerank endpoint of some thirty kinds, or of a kind of yours.

    Documents beyond what the server takes at once are sent in several requests at the same time, and merged. Answers are
    mapped by index alone and checked: no document is lost, moved or doubled by a wrong answer, which is a `ScoreError`.
    What fails for a while is tried again, within the ``deadline``, as the server asks; what fails for good is an
    `EndpointError`, which says what to do and holds neither key nor texts.

    A document that the server finds too long is cut until it is taken (``metadata["rerank"]["truncated"]``), or goes last
    with the status ``"unjudged"``; it never fails the others. With ``long_documents="chunk"`` long ones are judged in parts
    that are documents to the server, batched and counted as such. ``metadata["rerank"]["usage"]`` holds ``requests``,
    ``retries``, ``documents``, ``cached`` (equal texts, sent once), ``seconds``, and ``tokens``, ``search_units`` and
    ``cost`` where the provider says them.

    Connections are kept between calls, also between those of one event loop; `close`, or leaving a ``with`` block, or
    `aclose` and ``async with``, closes them.
    """

    provider: str | Mapping[str, Any] = "custom"
    """Name of a provider (``"custom"`` is any endpoint of Cohere's shape), the path of a YAML file with the keys of
    `langchain_rerankkit.hosted.profiles.Profile`, or such keys, with ``like`` as the name of a provider to start from."""

    model: str | None = None
    """Name of the model; needed by most providers."""

    base_url: str | None = None
    """Where the endpoint is, with or without the path; by default the provider's own host."""

    api_key: SecretStr | Callable[[], str] | None = None
    """The key, or a function that returns a token for each request. By default it is read from the provider's environment
    variable, which goes to the provider's own hosts only."""

    params: Mapping[str, str] = Field(default_factory=dict)
    """Values beside model and key that a provider needs: ``{"region": …}`` of Bedrock, ``{"project": …}`` of Vertex."""

    instruction: str | None = None
    """What relevance means, for models that are told."""

    request_options: Mapping[str, Any] = Field(default_factory=dict)
    """What else the request's body says: ``{"max_tokens_per_doc": 512}``. None takes away what the profile says."""

    activation: Literal["auto", "sigmoid", "identity"] = "auto"
    """From raw score to score. ``"auto"`` is ``"sigmoid"`` where the provider's scores are logits (NVIDIA, watsonx,
    llama.cpp), else ``"identity"``. Take ``"identity"`` for a Qwen3-Reranker on llama.cpp."""

    timeout: float = Field(default=30.0, gt=0)
    """Seconds for connecting, and for each wait for a part of an answer."""

    deadline: float | None = Field(default=None, gt=0)
    """Seconds for all of a rerank, with its attempts and requests."""

    max_retries: int = Field(default=2, ge=0)
    """Attempts after the first, for connections that fail and the statuses 408, 429, 500, 502, 503 and 504."""

    backoff: float = Field(default=0.5, ge=0)
    """Seconds before the second attempt, doubled for each other one up to 8, where the server does not say."""

    max_concurrency: int = Field(default=8, ge=1)
    """Most requests at the same time: of all threads together, and in each event loop."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Most requests in any minute; those above wait, or fail where their deadline comes first."""

    break_after: int | None = Field(default=5, ge=1)
    """Failures in a row (no answer, or the statuses 500, 502, 503 and 504 without a ``Retry-After``) after which calls fail
    at once."""

    break_seconds: float = Field(default=30.0, gt=0)
    """Seconds for which they do. After that one more failure is enough."""

    max_documents: int | None = Field(default=None, ge=1)
    """Most documents of a request; by default what the provider takes."""

    max_characters: int | None = Field(default=None, ge=1)
    """Most characters of a document that are sent, or of each of its chunks; by default what the provider takes, and of a
    chunk no more than 2,000. What a model reads of them is its own affair: most servers cut without a word what is too
    long for it. ``long_documents="error"`` also holds for what the server refuses as too long."""

    chunk_overlap: int = Field(default=128, ge=0)
    """Characters that neighbouring chunks share: at most half of a chunk."""

    max_response_bytes: int = Field(default=16 * 2**20, ge=1)
    """Most bytes of an answer."""

    proxy: SecretStr | None = None
    """URL of a proxy; by default what the environment says."""

    verify: bool | str = True
    """Whether certificates are checked, or a file or folder of those to trust."""

    allow_insecure: bool = False
    """Whether a key may go to another machine without TLS."""

    allow_private_networks: bool = True
    """Whether the endpoint may have an address that is not public. Say no where users choose ``base_url``: what a name
    resolves to is checked for every connection, and proxies of the environment are not used."""

    http_client: Any = Field(default=None, exclude=True, repr=False)
    """An ``httpx.Client`` for calls that are not asynchronous, with proxies, TLS and headers of its own."""

    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """An ``httpx.AsyncClient`` for those that are; it belongs to one event loop."""

    call_options = ChunkingReranker.call_options | {"deadline"}

    model_config = ConfigDict(hide_input_in_errors=True)  # a refused key would be quoted

    # --- checks ---------------------------------------------------------------------------------------------------

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: Any) -> Any:
        if isinstance(key, SecretStr) and not is_key(key.get_secret_value()):
            msg = "api_key holds a space, a line break or another character that no key has."
            raise ValueError(msg)
        return key

    @model_validator(mode="after")
    def _check(self) -> Self:
        profile = self._profile
        name = profile.called
        if profile.model == "required" and not self.model:
            known = f", for example {profile.examples[0]!r}" if profile.examples else ""
            msg = f"{name} needs a model{known}."
            raise ValueError(msg)
        if self.instruction is not None and profile.instruction == "none":
            msg = f"{name} takes no instruction; put it into the query."
            raise ValueError(msg)
        for path in leaves(self.request_options):
            if profile.owned(*path):
                msg = f"request_options cannot set {'.'.join(path)!r}, which is filled in here."
                raise ValueError(msg)
        if not self.allow_private_networks and (self.proxy or self.http_client or self.http_async_client):
            msg = "allow_private_networks=False checks connections that are opened here: a proxy or client must check its own."
            raise ValueError(msg)
        if self.base_url is not None:
            self._check_url(self.base_url)
        return self

    def _check_url(self, url: str, *, with_key: bool | None = None) -> None:
        key = self.api_key is not None if with_key is None else with_key
        check_url(url, with_key=key, allow_insecure=self.allow_insecure)
        host = host_of(url)
        if not self.allow_private_networks and address_of(host) is not None and not is_public(host):
            msg = "The address of base_url is not a public one, and allow_private_networks is False."
            raise ValueError(msg)

    # --- what it is -----------------------------------------------------------------------------------------------

    @cached_property
    def _profile(self) -> Profile:
        return load_profile(self.provider).for_model(self.model)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__.pop("_profile", None)  # it is looked at when the new value is checked
        super().__setattr__(name, value)
        self.__dict__.pop("_profile", None)

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        names = load_profile(self.provider).key_env
        return {"api_key": names[0] if names else "RERANK_API_KEY", "proxy": "HTTPS_PROXY"}

    @property
    @override
    def judges_alone(self) -> bool:
        return not self._profile.listwise

    @override
    def _label(self) -> str:
        return self.model or self._profile.name

    @override
    def _provider(self) -> str | None:
        return self._profile.name

    @override
    def _activate(self, raw_score: float) -> float:
        logit = self.activation == "sigmoid" or (self.activation == "auto" and self._profile.scores == "logit")
        return sigmoid(raw_score) if logit else raw_score

    @override
    def _load(self) -> _Ready:
        profile = self._profile
        values = profile.values(self.model, self.params)
        given = self.api_key.get_secret_value() if isinstance(self.api_key, SecretStr) else self.api_key
        key = key_for(profile, given, self.base_url)
        url = endpoint_url(base_for(profile, key, self.base_url, values), profile.path_for(values))
        self._check_url(url, with_key=key is not None or profile.signer is not None)
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            **{name: value.format_map(values) for name, value in profile.headers.items()},
        }
        signer = signer_for(profile, key, values)
        if signer is None and isinstance(key, str):
            headers |= key_header(profile, key)
        endpoint = Endpoint(
            profile,
            url,
            values=values,
            headers=headers,
            key=key if isinstance(key, str) else None,
            signer=signer,
            instruction=self.instruction,
            options=self.request_options,
            max_retries=self.max_retries,
            backoff=self.backoff,
            pace=Pace(self.requests_per_minute),
            breaker=Breaker(self.break_after, self.break_seconds),
        )
        settings = WireSettings(
            timeout=self.timeout,
            max_concurrency=self.max_concurrency,
            max_response_bytes=self.max_response_bytes,
            proxy=None if self.proxy is None else self.proxy.get_secret_value(),
            verify=self.verify,
            allow_private_networks=self.allow_private_networks,
            # A proxy of the environment would hide whom it talks to, and has nothing to do with this machine.
            trust_env=self.allow_private_networks and not is_loopback(host_of(url)),
            client=self.http_client,
            async_client=self.http_async_client,
        )
        return _Ready(endpoint, Wire(settings))

    def diagnose(self, *, limits: bool = False) -> Diagnosis:
        """Find out, with three or four small requests, how the endpoint orders and whether its scores are logits.

        Args:
            limits: Also send up to 1024 short documents at once, to see how many it takes.

        Raises:
            EndpointError: If it does not answer, or refuses: the message says what to do.
            ScoreError: If its answer is no ranking.
        """
        ready: _Ready = self._ready()
        found: Diagnosis = ready.wire.drive(diagnosis(ready.endpoint, limits=limits), set())
        return found

    # --- the wire -------------------------------------------------------------------------------------------------

    @override
    def close(self) -> None:
        ready = self._once.peek()
        super().close()
        if ready is not None:
            ready.wire.close()

    async def aclose(self) -> None:
        """Close connections, also those of the running event loop."""
        ready = self._once.peek()
        super().close()
        if ready is not None:
            await ready.wire.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        ready: _Ready = self._ready()
        sent = [self._begin(ready, request) for request in requests]
        deadline = sent[0].asked.deadline
        limit = self.max_documents or ready.wire.limit(ready.endpoint.limit(deadline), deadline)
        outcomes = ready.wire.run([self._job(ready, one, limit) for one in sent])
        return [self._finish(one, outcome) for one, outcome in zip(sent, outcomes, strict=True)]

    @override
    async def _ascore_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        ready: _Ready = self._ready()
        sent = [self._begin(ready, request) for request in requests]
        deadline = sent[0].asked.deadline
        limit = self.max_documents or await ready.wire.alimit(ready.endpoint.limit(deadline), deadline)
        outcomes = await ready.wire.arun([self._job(ready, one, limit) for one in sent])
        return [self._finish(one, outcome) for one, outcome in zip(sent, outcomes, strict=True)]

    def _begin(self, ready: _Ready, request: ScoreRequest) -> _Sent:
        failed = None
        try:
            chunks = self._cut(request.texts, ready.endpoint.profile.max_characters)
        except ValueError as error:  # a long text is one
            chunks, failed = Chunks(), error
        texts = chunks.different
        spent = Spent(documents=len(texts), cached=chunks.count - len(texts), failed=failed)
        deadline = math.inf if self.deadline is None else time.monotonic() + self.deadline
        secrets = Secrets([ready.endpoint.key or ""], [request.query, *texts])
        # What a top_n leaves out has no score to be compared with a threshold, to be found wanting, or to be combined.
        some = self.min_score is None and self.on_nan == "raise" and not chunks.any_long
        whole = self.long_documents == "error"
        asked = Asked(request.query, texts, self.top_n if some else None, deadline, spent, secrets, whole)
        return _Sent(asked, chunks)

    def _cut(self, texts: Sequence[str], taken: int | None) -> Chunks:
        """What is sent of texts, of which the provider takes so many characters."""
        taken = min(_CHUNK, taken or _CHUNK) if self.long_documents == "chunk" else taken
        most = self.max_characters or taken or max(map(len, texts))
        return self._chunks(
            texts, most, "characters", lambda text: (text[:most], len(text) > most), lambda _, start: start + most
        )

    def _job(self, ready: _Ready, sent: _Sent, limit: int | None) -> Job:
        endpoint, asked = ready.endpoint, sent.asked
        limit = min(limit or endpoint.profile.max_documents, endpoint.taken or len(asked.texts))
        parts = batches(asked.texts, limit, endpoint.profile.max_bytes) if asked.texts else []
        sent.requests = len(parts)
        if len(parts) > 1 and endpoint.profile.listwise:
            warnings.warn(
                f"{self._label()} judges the documents of a request beside each other: the scores of {len(parts)} requests "
                "are merged and not strictly comparable. Give it fewer candidates.",
                stacklevel=2,
            )
        steps: list[Steps] = [endpoint.judge(asked, part) for part in parts]
        return Job(steps, asked.spent, asked.deadline, self._late)

    def _late(self) -> EndpointError:
        msg = f"{self._label()} had not answered before the deadline of {self.deadline} s."
        return EndpointError(msg, provider=self._profile.name, retryable=True)

    def _finish(self, sent: _Sent, outcome: Any) -> Answer | Exception:
        spent = sent.asked.spent
        usage = spent.usage()
        error = outcome if isinstance(outcome, Exception) else None
        scores: dict[int, float] = {} if error else {place: s for part in outcome for place, s in part.items()}
        error = error or (None if scores else spent.failed or spent.refusal)
        if error is not None:
            return with_details(error, usage=usage)
        results = sent.chunks.results(scores, self.chunk_score, spent.truncated)
        about: dict[str, Any] = {"requests": sent.requests} if sent.requests > 1 else {}
        return DetailedScores(
            [0.0 if result.score is None else result.score for result in results],
            [{"usage": dict(usage), **about, **result.details} for result in results],
            {document for document, result in enumerate(results) if result.score is None},
        )
