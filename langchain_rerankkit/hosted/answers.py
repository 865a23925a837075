"""What an endpoint said: scores by position, what they cost, and errors that quote neither key nor texts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from html import unescape
from http import HTTPStatus
from typing import Any

from langchain_rerankkit.errors import EndpointError, ScoreError
from langchain_rerankkit.hosted.profiles import Profile
from langchain_rerankkit.hosted.redaction import Secrets

__all__ = ["Heard", "TooMuchError", "failed", "parsed", "retry_after", "scores_of", "usage_of"]

_MOST = 1e15  # of what something may cost; and no NaN
_LONGEST = 400  # characters of a server's message that are repeated
_SIZE = re.compile(
    r"too (?:large|long|big|many)|exceed|maximum|longer than|context (?:length|size|window)|batch size|limit of \d|"
    r"(?:length|token|size|document|text)s? limit|max allowed|length should be|no more than|less than or equal|"
    r"at most \d+ (?:items|characters)",
    re.IGNORECASE,
)
_OTHER = re.compile(r"quota|rate limit|per (?:minute|second|day)|credit|billing|balance", re.IGNORECASE)
_RETRIED = {408, 429, 500, 502, 503, 504}
_SIZED = {400, 413, 422, 500}  # statuses with which servers refuse what is too long or too much


class TooMuchError(EndpointError):
    """The server refused the size of what it was sent: less of it may do."""


@dataclass(frozen=True)
class Heard:
    """An HTTP answer.

    Attributes:
        status: Its status.
        headers: Its headers, whatever their case.
        body: All of its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def parsed(heard: Heard) -> Any:
    """The JSON of an answer; None where it is none."""
    try:
        return json.loads(heard.body)
    except (ValueError, RecursionError):
        return None


def dig(data: Any, place: str) -> Any:
    """What stands at a place: names with dots between them; None where nothing does."""
    for name in filter(None, place.split(".")):
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, in any of the forms it is said in: milliseconds, seconds, a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) * unit
        except ValueError:
            try:
                when = parsedate_to_datetime(said)
            except (ValueError, TypeError, OverflowError):
                continue
            when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
            seconds = (when - datetime.now(timezone.utc)).total_seconds()
        if seconds == seconds and seconds != float("inf"):  # noqa: PLR0124 - not NaN
            return max(0.0, seconds)
    return None


def scores_of(profile: Profile, data: Any, count: int) -> dict[int, float]:
    """Scores by position in the documents that were sent. Nothing but index and score is read.

    Args:
        profile: Where they stand.
        data: The JSON of the answer.
        count: How many documents were sent.

    Raises:
        EndpointError: If there is no list of results.
        ScoreError: If a result has no position of its own among the documents, or no number as its score.
    """
    results = dig(data, profile.results)
    name = profile.called
    if results is None and isinstance(data, Mapping) and profile.results in data:
        return {}
    if not isinstance(results, list):
        where = f"no list {profile.results!r}" if profile.results else "no list"
        kind = "an object" if isinstance(data, Mapping) else f"a {type(data).__name__}"
        msg = f"{name} answered {kind} and {where}. Is it this provider's endpoint?"
        raise EndpointError(msg, provider=profile.name, status=200)
    index, name_of_score, as_text = profile.index, profile.score, profile.index_as_text
    scores: dict[int, float] = {}
    for place, result in enumerate(results):
        if not isinstance(result, dict) and (index is not None or name_of_score is not None):
            msg = f"{name} answered a {type(result).__name__} in place of result {place}."
            raise ScoreError(msg)
        position = place if index is None else _position(result.get(index), as_text=as_text)
        if position is None or not 0 <= position < count:
            msg = f"{name} gave result {place} a position that is none of 0 to {count - 1}; no document was moved."
            raise ScoreError(msg)
        if position in scores:
            msg = f"{name} scored document {position} twice; no document was moved."
            raise ScoreError(msg)
        score = result if name_of_score is None else result.get(name_of_score, ...)
        if score is None:
            score = math.nan  # how JSON writers put it
        if type(score) is not float and type(score) is not int:  # and no bool
            msg = (
                f"{name} gave document {position} a score that is no number ({name_of_score or 'the list of scores'})."
            )
            raise ScoreError(msg)
        try:
            scores[position] = float(score)
        except OverflowError:  # an integer of hundreds of digits
            scores[position] = math.inf
    return scores


def _position(said: Any, *, as_text: bool) -> int | None:
    if as_text:
        return int(said) if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 10 else None  # noqa: PLR2004
    return said if type(said) is int else None  # and no bool


def usage_of(profile: Profile, data: Any, headers: Mapping[str, str]) -> dict[str, float]:
    """What the answer says that it cost, as far as it does."""
    usage: dict[str, float] = {}
    for name, places in profile.usage.items():
        for place in [places] if isinstance(places, str) else places:
            header = place.removeprefix("header ")
            said: Any = headers.get(header) if header != place else dig(data, place)
            if isinstance(said, str) and said.isascii() and said.isdigit():
                said = int(said[:15])
            if type(said) in {int, float} and 0 <= said < _MOST:
                usage.setdefault(name, said)
    return usage


def failed(
    profile: Profile, heard: Heard, data: Any, *, host: str, keyed: bool, secrets: Secrets
) -> EndpointError | None:
    """What is wrong with an answer, if it is one that says so.

    Args:
        profile: The provider.
        heard: The answer.
        data: Its JSON.
        host: Who answered, for the message.
        keyed: Whether a key was sent.
        secrets: What the message may not hold.
    """
    code = dig(data, profile.error_code) if profile.error_code else None
    if heard.status == 200 and not code and not (data is None and heard.body.strip() != b"null"):  # noqa: PLR2004
        return None
    status = heard.status
    if status == 200 and type(code) is int:  # noqa: PLR2004
        status = profile.error_statuses.get(code, status)
    words = _text(heard, data)[:_LONGEST]
    text = secrets.hide(words)
    said = f"{status} {_phrase(status)}" if status != 200 else "" if code else "no JSON"  # noqa: PLR2004
    said += f" (code {secrets.hide(str(code)[:40])})" if code else ""
    too_much = status == 413 or (  # noqa: PLR2004
        status in _SIZED and _SIZE.search(words) is not None and _OTHER.search(words) is None
    )
    hints = [] if too_much else [profile.hints.get(status, ""), _hint(status, profile, keyed=keyed)]
    parts = [
        f"{profile.called} ({host}) answered {said.strip()}{f': {text}' if text else ''}",
        *filter(None, hints),
    ]
    return (TooMuchError if too_much else EndpointError)(
        ". ".join(part.rstrip(". ") for part in parts) + ".",
        provider=profile.name,
        status=status,
        retry_after=retry_after(heard.headers),
        retryable=not too_much and status in {*_RETRIED, *profile.retry},
        request_id=_request_id(heard, data, secrets),
    )


def _text(heard: Heard, data: Any) -> str:
    """The server's own words, wherever it puts them; never the parts of it that repeat what was sent."""
    if isinstance(data, str):
        return data
    if isinstance(data, Mapping):
        inner = data.get("error")
        for place in (
            inner.get("message") or inner.get("reason") if isinstance(inner, Mapping) else None,
            data.get("errors"),
            data.get("message"),
            data.get("detail"),
            inner,
            data.get("title"),
            data.get("reason"),
        ):
            text = _words(place)
            if text:
                return text
        return ""
    if data is None and heard.body:
        text = heard.body[:20_000].decode(errors="replace")
        text = re.sub(r"<(script|style|head)\b.*?</\1\s*>|<[^<>]*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
        return " ".join(unescape(text).split())
    return heard.headers.get("www-authenticate", "")


def _words(said: Any) -> str:
    if isinstance(said, list):  # of pydantic's mistakes, say; their "input" repeats what was sent
        said = "; ".join(filter(None, map(_mistake, said)))
    if isinstance(said, Mapping):
        said = said.get("error") or said.get("message")
    return " ".join(said.split()) if isinstance(said, str) else ""


def _mistake(one: Any) -> str:
    if not isinstance(one, Mapping):
        return ""
    place = one.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {one['msg']}" if where and one.get("msg") else str(one.get("msg") or one.get("message") or "")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return {498: "Invalid Token", 499: "Client Closed Request"}.get(status, "")


def _hint(status: int, profile: Profile, *, keyed: bool) -> str:
    if status in {401, 403, 498}:
        if keyed:
            return "Check api_key"
        read = f"; {' or '.join(profile.key_env)} is sent to the provider's own host only" if profile.key_env else ""
        return f"No key was sent: give api_key=…{read}"
    if 300 <= status < 400:  # noqa: PLR2004
        return "Redirects are not followed, since they would take the key along: give the final address as base_url"
    return {
        402: "Check the account's billing",
        404: "Check base_url and model",
    }.get(status, "")


def _request_id(heard: Heard, data: Any, secrets: Secrets) -> str | None:
    found = [data.get(name) for name in ("id", "request_id", "requestId")] if isinstance(data, Mapping) else []
    found += [heard.headers.get(name) for name in ("x-request-id", "request-id", "x-amzn-requestid")]
    text = next((str(one) for one in found if isinstance(one, (str, int))), None)
    return None if text is None else secrets.hide(text[:80])
