"""What a provider's rerank endpoint looks like, as data: `Profile`, read from providers.yaml or given by the user."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from typing_extensions import Self

from langchain_rerankkit.errors import mistakes
from langchain_rerankkit.hosted.templates import deep_merge, filled, placeholders

__all__ = ["Profile", "from_env", "load_profile", "profile_names"]

_PLACEHOLDERS = {"model", "query", "documents", "top_n", "limit", "instruction", "text", "position"}


class Param(BaseModel):
    """A value beside model and key that a provider needs: a region, a project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: Sequence[str] = ()
    """Environment variables to read it from; the first that is set is taken."""

    default: str | None = None
    """What it is where nobody says; None where somebody must."""


class Poll(BaseModel):
    """Answers that come later: the status and header that say so, and where to ask."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: int
    """HTTP status of an answer that is not ready."""

    header: str
    """Its header with the identifier of the request."""

    url: str
    """Where to ask, with ``{id}``; a path is at the endpoint's own host, and so is a URL where the host is another one."""


class Probe(BaseModel):
    """Where a server says how many documents it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """Path to GET, beside the rerank path."""

    field: str
    """Where the number stands in its answer."""


class Profile(BaseModel):
    """A rerank endpoint: where it is, what it is sent, what its answer means.

    ``request`` is the JSON body with placeholders in place of values: ``$model``, ``$query``, ``$documents`` (the list of
    texts), ``$top_n`` (absent unless the reranker has one), ``$limit`` (``top_n``, or the number of documents),
    ``$instruction``, and names of ``params``. A mapping ``{each: …}`` becomes a list with one item for each document, in
    which ``$text`` and ``$position`` (a string) stand for it. Keys whose value is None are left out. In ``url``, ``path``,
    ``headers`` and ``model_prefix``, ``{model}``, ``{model_}`` (dots as underscores) and names of ``params`` are put in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str = "custom"
    """What ``provider=`` calls it."""

    title: str = ""
    """What messages call it, if not by its name."""

    url: str | None = None
    """Scheme and host; None where everybody has a server of their own."""

    url_env: str | None = None
    """Environment variable that may hold it instead."""

    url_by_key: Mapping[str, str] = {}
    """Other hosts, by what the key begins with."""

    path: str = "/rerank"
    """Path of the endpoint, with the query string if there is one."""

    key: Literal["required", "optional", "none"] = "optional"
    """Whether it needs a key."""

    key_env: Sequence[str] = ()
    """Environment variables that may hold it; the first that does is taken."""

    key_hosts: Sequence[str] = ()
    """Hosts beside that of ``url`` to which a key from the environment may go: ``"*.example.com"``."""

    auth: str = "Authorization: Bearer {key}"
    """The header that carries the key."""

    signer: Literal["aws", "google", "ibm", "volcengine"] | None = None
    """Who signs requests, or gets a token for the key: a function of `langchain_rerankkit.hosted.auth`."""

    headers: Mapping[str, str] = {}
    """Headers that every request has."""

    params: Mapping[str, Param] = {}
    """Values beside model and key, by name."""

    model: Literal["required", "optional"] = "required"
    """Whether a model must be named."""

    model_prefix: str = ""
    """What comes before names of models that do not begin with its first word."""

    examples: Sequence[str] = ()
    """Names of models, for messages."""

    request: Mapping[str, Any] = {}
    """The body."""

    instruction: Literal["field", "query", "none"] = "none"
    """Where an instruction goes: into ``$instruction``, before the query, or nowhere."""

    results: str = "results"
    """Where the list of results stands in the answer: names with dots between them, empty for the answer itself."""

    index: str | None = "index"
    """Name of the position in a result; None where results have the order of the documents."""

    index_as_text: bool = False
    """Whether the position is a string."""

    score: str | None = "relevance_score"
    """Name of the score in a result; None where the results are numbers."""

    scores: Literal["unit", "logit", "model"] = "unit"
    """What a score is: from 0 to 1, a raw logit, or whatever the model says."""

    listwise: bool = False
    """Whether a document's score depends on which others are in the same request."""

    usage: Mapping[str, str | Sequence[str]] = {}
    """Where the answer says what it cost: places, or ``header NAME``, by ``tokens``, ``search_units`` or ``cost``; of
    several the first that says it."""

    error_code: str | None = None
    """Place of a code which is not 0 where an answer of status 200 is an error."""

    error_statuses: Mapping[int, int] = {}
    """HTTP statuses that such codes stand for then."""

    max_documents: int = 256
    """Most documents of a request."""

    max_bytes: int = 4_000_000
    """Most bytes of text of a request."""

    max_characters: int | None = None
    """Most characters of a document."""

    probe: Probe | None = None
    """Where the server says its own ``max_documents``."""

    next_page: str | None = None
    """Name, in answers and requests, of the token for more results."""

    poll: Poll | None = None
    """How answers come later, if they do."""

    retry: Sequence[int] = ()
    """HTTP statuses that are worth another attempt, beside the usual ones."""

    hints: Mapping[int, str] = {}
    """What to do, by HTTP status."""

    models: Mapping[str, Mapping[str, Any]] = {}
    """What is different for models whose name fits a pattern."""

    no_endpoint: str = ""
    """Why there is nothing to call, and what to use instead."""

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.title or self.name

    @model_validator(mode="after")
    def _check_placeholders(self) -> Self:
        known = _PLACEHOLDERS | set(self.params)
        unknown = sorted(self.places() - known)
        if unknown:
            msg = f"Unknown placeholders ${', $'.join(unknown)}; there are ${', $'.join(sorted(known))}."
            raise ValueError(msg)
        return self

    def for_model(self, model: str | None) -> Profile:
        """This profile with what is different for a model."""
        for pattern, other in self.models.items():
            if model is not None and fnmatch(model, pattern):
                return Profile.model_validate(deep_merge(self.model_dump(exclude={"models"}), other))
        return self

    def values(self, model: str | None, params: Mapping[str, str]) -> dict[str, str]:
        """What to put into URL and headers.

        Raises:
            ValueError: If a value is missing or not known.
        """
        unknown = sorted(set(params) - set(self.params))
        if unknown:
            msg = f"{self.called} has no params {unknown}, only {sorted(self.params)}."
            raise ValueError(msg)
        name = model or ""
        scheme = self.model_prefix.partition(":")[0] + ":"
        found = {"model": name, "model_": name.replace(".", "_")}
        for key, param in self.params.items():
            value = params.get(key) or from_env(*param.env) or param.default
            if value is None:
                read = f", or set {' or '.join(param.env)}" if param.env else ""
                msg = f'{self.called} needs params={{"{key}": …}}{read}.'
                raise ValueError(msg)
            found[key] = value
        if self.model_prefix and not name.startswith(scheme):
            found["model"] = self.model_prefix.format_map(found) + name
        return found

    def path_for(self, values: Mapping[str, str]) -> str:
        """The path with its values put in.

        Raises:
            ValueError: If a value would lead elsewhere.
        """
        for name, value in values.items():
            if {"..", "."} & set(value.split("/")) and (f"{{{name}}}" in self.path):
                msg = f"{name} stands in the address and must not hold '..'."
                raise ValueError(msg)
        return self.path.format_map({name: quote(value, safe="/:@") for name, value in values.items()})

    def body(
        self,
        query: str,
        documents: Sequence[str],
        *,
        values: Mapping[str, str],
        top_n: int | None = None,
        instruction: str | None = None,
    ) -> dict[str, Any]:
        """The body of a request.

        Args:
            query: The query.
            documents: Texts.
            values: Model and params, as `values` says them; what is empty is left out.
            top_n: How many results to ask for; all by default.
            instruction: What relevance means, for models that are told.
        """
        if instruction and self.instruction == "query":
            query = f"{instruction}\n{query}"
        filling = {
            **{name: value or None for name, value in values.items()},
            "query": query,
            "documents": list(documents),
            "top_n": top_n,
            "limit": top_n or len(documents),
            "instruction": instruction,
        }
        body: dict[str, Any] = filled(self.request, filling)
        return body

    def places(self) -> set[str]:
        """Names of the placeholders in the body."""
        return placeholders(self.request)

    def owned(self, *names: str) -> bool:
        """Whether a key of ``request`` is filled by us, and so not the user's to set."""
        part: Any = self.request
        for name in names:
            if not isinstance(part, Mapping):
                break
            part = part.get(name)
        return bool(placeholders(part))


def from_env(*names: str | None) -> str | None:
    """The first of some environment variables that holds something."""
    return next((value for name in names if name and (value := os.environ.get(name))), None)


@cache
def _shipped() -> Mapping[str, Mapping[str, Any]]:
    text = files("langchain_rerankkit.hosted").joinpath("providers.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)
    return loaded


def profile_names() -> list[str]:
    """Names of the providers that ship with the package."""
    return [name for name, data in _shipped().items() if "no_endpoint" not in data]


@cache
def _named(name: str) -> Profile:
    return Profile.model_validate({"name": name, **_data(name)})


def _data(name: str) -> dict[str, Any]:
    known = _shipped().get(name)
    if known is None:
        msg = f"Unknown provider {name!r}. There are {', '.join(profile_names())}; or give a profile of your own."
        raise ValueError(msg)
    data = dict(known)
    like = data.pop("like", None)
    return data if like is None else _like(_data(like), data)


def _like(base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    merged = deep_merge(base, data)
    return merged | {"request": data["request"]} if "request" in data else merged  # a body is said as a whole


def _read(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        msg = f"{file} is not YAML: {error}"
        raise ValueError(msg) from error


def load_profile(provider: str | Mapping[str, Any]) -> Profile:
    """The profile of a provider.

    Args:
        provider: A name, the path of a YAML file with the keys of `Profile`, or such keys as a mapping. With a key
            ``like`` they are what is different from the provider of that name; without one, from Cohere's shape. A
            ``request`` replaces the other one as a whole. A profile is as trusted as code: it says which keys of the
            environment go where.

    Raises:
        ValueError: If there is no such provider, it has no rerank endpoint, or the data is no profile.
    """
    if isinstance(provider, str) and not re.search(r"\.ya?ml$", provider):
        profile = _named(provider)
    else:
        data = _read(Path(provider)) if isinstance(provider, str) else provider
        if not isinstance(data, Mapping):
            msg = "A profile is a mapping with the keys of langchain_rerankkit.hosted.profiles.Profile."
            raise ValueError(msg)
        data = dict(data)
        base = _data(data.pop("like", "custom"))
        try:
            profile = Profile.model_validate(_like({**base, "title": "The endpoint"}, data))
        except ValidationError as error:
            msg = f"Not a profile of a rerank endpoint: {mistakes(error)}"
            raise ValueError(msg) from error
    if profile.no_endpoint:
        raise ValueError(profile.no_endpoint)
    return profile
