import json
import math
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit import EndpointError
from langchain_rerankkit.hosted.answers import Heard, TooMuchError, failed, parsed, retry_after
from langchain_rerankkit.hosted.profiles import load_profile
from langchain_rerankkit.hosted.redaction import Secrets

KEY = "sk-abcdefghijklmnop"


def error(status, body, provider="cohere", texts=(), headers=None):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    heard = Heard(status, headers or {}, content)
    return failed(
        load_profile(provider), heard, parsed(heard), host="h", keyed=True, secrets=Secrets([KEY], list(texts))
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"message": "no such model", "id": "7"}, "no such model"),
        ({"error": {"message": "no such model", "type": "x"}}, "no such model"),
        ({"error": {"type": "x", "reason": "no such model"}}, "no such model"),
        ({"error": "no such model", "error_type": "Validation"}, "no such model"),
        ({"detail": "no such model"}, "no such model"),
        ({"detail": [{"loc": ["body", "model"], "msg": "no such", "input": "the document"}]}, "body.model: no such"),
        ({"detail": {"error": "no such model"}}, "no such model"),
        ({"errors": [{"code": 3, "message": "no such model"}]}, "no such model"),
        ({"title": "Bad", "status": 400}, "Bad"),
        ("no such model", "no such model"),
        (b"<html><head><title>x</title></head><body><h1>No such&nbsp;model</h1></body></html>", "No such model"),
        (b"plain words", "plain words"),
    ],
)
def test_the_servers_words_wherever_they_are(body, text):
    said = str(error(400, body))
    assert text in said
    assert "the document" not in said
    assert said.startswith("Cohere (h) answered 400 Bad Request: ")


def test_an_empty_refusal_still_says_something():
    assert "401 Unauthorized. Check api_key" in str(error(401, b""))
    assert "no reranker" in str(error(401, b"", headers={"www-authenticate": 'Bearer error="no reranker"'}))
    assert "billing" in str(error(402, {}))
    assert "no /v1/rerank" in str(error(404, {}, provider="tei"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (413, ""),
        (422, "batch size 33 > maximum allowed batch size 32"),
        (422, "List should have at most 64 items after validation, not 149"),
        (500, "input (606 tokens) is too large to process. increase the physical batch size"),
        (400, "request (4000 tokens) exceeds the available context size"),
        (400, "too many documents"),
    ],
)
def test_too_much_is_told_apart(status, message):
    found = error(status, {"message": message})
    assert isinstance(found, TooMuchError)
    assert not found.retryable


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "you exceeded your current quota"),
        (400, "invalid api token"),
        (401, "too many tokens"),
        (429, "rate limit exceeded"),
        (503, "too many requests"),
    ],
)
def test_and_what_is_not_too_much(status, message):
    assert type(error(status, {"message": message})) is EndpointError


def test_only_some_are_worth_another_try():
    retried = {status for status in range(300, 600) if error(status, {"message": "x"}).retryable}
    assert retried == {408, 429, 500, 502, 503, 504}
    assert error(409, {}, provider="pinecone").retryable


def test_an_error_of_status_200():
    assert error(200, {"code": 0, "data": {}}, provider="volcengine") is None
    assert "400 Bad Request (code 1000003): bad model" in str(
        error(200, {"code": 1000003, "message": "bad model"}, provider="volcengine")
    )
    assert error(200, b"null") is None


class TestRetryAfter:
    @given(st.floats(0, 1e6))
    def test_seconds(self, seconds):
        assert retry_after({"retry-after": str(seconds)}) == pytest.approx(seconds)

    def test_a_date(self):
        assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
        assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0

    def test_milliseconds_come_first(self):
        assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25

    @given(st.text(max_size=20))
    def test_nonsense_is_no_wait(self, text):
        wait = retry_after({"retry-after": text})
        assert wait is None or (wait >= 0 and math.isfinite(wait))

    @pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e999"])
    def test_what_no_clock_knows(self, text):
        assert retry_after({"retry-after": text}) is None

    def test_the_past_is_now(self):
        assert retry_after({"retry-after": "-5"}) == 0


class TestSecrets:
    texts = (
        "Which river flows through the city?",
        "The patient's blood pressure was 180 over 110.",
        "Übergrößenträger",
        "x",
    )

    @given(st.text(max_size=40), st.text(max_size=40), st.sampled_from([*texts[:3], KEY]))
    def test_whole_texts_are_hidden(self, before, after, secret):
        assert secret not in Secrets([KEY], self.texts).hide(before + secret + after)

    @given(st.integers(0, 20), st.integers(16, 26), st.text(max_size=10))
    def test_and_passages_of_them(self, start, length, around):
        passage = self.texts[1][start : start + length]
        assert passage not in Secrets([KEY], self.texts).hide(f"{around}{passage}{around}")

    def test_pieces_of_a_key(self):
        assert KEY[2:12] not in Secrets([KEY], []).hide(f"invalid key ...{KEY[2:12]}")

    def test_a_short_key_hides_no_more_than_itself(self):
        assert Secrets(["EMPTY"], []).hide("must not be empty: EMPTY") == "must not be empty: [key]"

    def test_escaped_texts(self):
        hidden = Secrets([], self.texts).hide(json.dumps(self.texts[2]))
        assert hidden == '"[…]"'

    @given(st.text(alphabet="abcdefgh ", max_size=80))
    def test_other_words_stay(self, message):
        assert Secrets([KEY], ["0123456789" * 3]).hide(message) == message
