"""What `HostedReranker` does over real sockets: splitting, limits, deadlines, connections, usage."""

import asyncio
import contextlib
import gc
import os
import re
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.load import dumps

from langchain_rerankkit import EndpointError, HostedReranker, JinaReranker, ScoreError
from langchain_rerankkit.hosted.query import batches
from tests.hosted import KEY, hosted, open_accounts
from tests.rerank_fakes import FAKES, judge
from tests.rerank_server import Reply, serve

QUERY = "Which river flows through the city?"
WORDS = ["river", "city", "museum", "bread", "flows", "train", "which", "nine", "through", "hour"]


def texts_of(count):
    return [f"{WORDS[n % 10]} {WORDS[n // 10 % 10]} {WORDS[n * 7 % 10]} number {n}" for n in range(count)]


def ranked(texts):
    return sorted(texts, key=lambda text: judge(QUERY, text), reverse=True)


def order(lines):
    return [line.document.page_content for line in lines]


def posts(server):
    return [request for request in server.requests if request.method == "POST"]


class TestSplitting:
    @given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 20), st.integers(60, 400))
    def test_batches_hold_every_text_once_and_no_more_than_they_may(self, lengths, most, size):
        texts = ["é" * length for length in lengths]
        parts = batches(texts, most, size)
        assert [position for part in parts for position in part] == list(range(len(texts)))
        assert all(0 < len(part) <= most for part in parts)
        assert all(sum(2 * lengths[position] for position in part) <= size or len(part) == 1 for part in parts)
        if sum(lengths) * 4 <= size:
            assert len(parts) == -(-len(texts) // most)
            each = -(-len(texts) // len(parts)) if parts else 0
            assert {len(part) for part in parts[:-1]} <= {each}

    @pytest.mark.parametrize("provider", ["tei", "pinecone", "cohere", "nvidia", "bedrock", "deepinfra", "llamacpp"])
    def test_more_than_a_server_takes(self, provider, monkeypatch):
        open_accounts(monkeypatch)
        texts = texts_of(250)
        with serve(FAKES[provider](limit=None if provider == "tei" else 40)) as server:
            with hosted(provider, server.url, max_documents=None if provider == "tei" else 40) as reranker:
                assert order(reranker.rank(QUERY, texts)) == ranked(texts)
                details = reranker.rank(QUERY, texts, top_n=3)
                assert order(details) == ranked(texts)[:3]
            assert details[0].details["requests"] == (8 if provider == "tei" else 7)
            assert details[0].details["usage"]["documents"] == 250

    def test_the_limit_is_asked_for_once(self):
        with serve(FAKES["tei"](max_client_batch_size=4)) as server, hosted("tei", server.url) as reranker:
            for _ in range(3):
                assert order(reranker.rank(QUERY, texts_of(10))) == ranked(texts_of(10))
            assert [request.path for request in server.requests].count("/info") == 1
            assert len(posts(server)) == 9

    def test_and_once_however_many_ask(self):
        fake = FAKES["tei"](max_client_batch_size=4)
        slow = {"GET": 0.1, "POST": 0.0}
        documents = [Document(page_content=text) for text in texts_of(5)]
        with serve(lambda request: replace(fake(request), wait=slow[request.method])) as server:
            with hosted("tei", server.url) as reranker, ThreadPoolExecutor(16) as threads:
                list(threads.map(lambda _: reranker.compress_documents(documents, QUERY), range(16)))

            async def main():
                async with hosted("tei", server.url) as reranker:
                    await asyncio.gather(*(reranker.acompress_documents(documents, QUERY) for _ in range(16)))

            asyncio.run(main())
        assert [request.path for request in server.requests].count("/info") == 2

    def test_a_limit_that_nobody_told(self):
        """A batch that is refused for its size is halved until it is taken."""
        with serve(FAKES["tei"](max_client_batch_size=4, info=False)) as server, hosted("tei", server.url) as reranker:
            lines = reranker.rank(QUERY, texts_of(10))
            assert order(lines) == ranked(texts_of(10))
            assert not any(line.details.get("truncated") for line in lines)
            assert len(posts(server)) < 10

    @pytest.mark.parametrize("many", [250, 1000])
    def test_nor_for_many_documents_and_it_is_told_once(self, many):
        with serve(FAKES["tei"](max_client_batch_size=4, info=False)) as server, hosted("tei", server.url) as reranker:
            for attempt in range(2):
                before = len(posts(server))
                assert order(reranker.rank(QUERY, texts_of(many))) == ranked(texts_of(many))
                too_many = len(posts(server)) - before - -(-many // 4)
                assert too_many < 60 if attempt == 0 else too_many == 0

            async def main():
                documents = [Document(page_content=text) for text in texts_of(many)]
                async with hosted("tei", server.url) as other:
                    return await other.acompress_documents(documents, QUERY)

            assert [document.page_content for document in asyncio.run(main())] == ranked(texts_of(many))

    def test_a_long_document_fails_no_other(self):
        texts = [*texts_of(30), "The river flows through the city. " * 2000, *texts_of(40)[30:]]
        with serve(FAKES["llamacpp"](max_characters=3000)) as server, hosted("llamacpp", server.url) as reranker:
            lines = reranker.rank(QUERY, texts)
            assert sorted(order(lines)) == sorted(texts)
            cut = [line for line in lines if line.details.get("truncated")]
            assert order(cut) == [texts[30]]
            assert cut[0].rank == 1
            assert {line.status for line in lines} == {"ok"}
            assert len(posts(server)) < 15

    def test_many_long_documents_are_not_searched_one_by_one(self):
        texts = [f"river {n} " * (2000 if n % 3 == 0 else 3) for n in range(90)]
        with serve(FAKES["llamacpp"](max_characters=2500)) as server, hosted("llamacpp", server.url) as reranker:
            lines = reranker.rank(QUERY, texts)
            assert sorted(order(lines)) == sorted(texts)
            assert {order([line])[0] for line in lines if line.details.get("truncated")} == set(texts[::3])
            assert len(posts(server)) < 30

    def test_a_document_that_is_never_taken_goes_last_and_says_so(self):
        fake = FAKES["cohere"]()

        def app(request):
            return fake.error(413, "too large") if b"poison" in request.body else fake(request)

        texts = [*texts_of(9), "poison river city"]
        with serve(app) as server, hosted("cohere", server.url) as reranker:
            lines = reranker.rank(QUERY, texts)
            assert order(lines)[:9] == ranked(texts[:9])
            assert (lines[9].document.page_content, lines[9].status) == (texts[9], "unjudged")
            with pytest.raises(EndpointError, match="413"):
                reranker.rank(QUERY, texts[9:])

    def test_a_refusal_that_nothing_helps_against_ends(self):
        fake = FAKES["cohere"]()
        with serve(lambda _: fake.error(400, "the maximum is exceeded")) as server:
            with hosted("cohere", server.url) as reranker, pytest.raises(EndpointError, match="maximum"):
                reranker.rank(QUERY, texts_of(200))
            assert len(posts(server)) < 60

    def test_characters_are_cut_here_where_the_limit_is_known(self):
        with serve(FAKES["infinity"]()) as server, hosted("infinity", server.url) as reranker:
            (line,) = reranker.rank(QUERY, ["river " * 40_000])
            assert line.details["truncated"] is True
            assert len(posts(server)) == 1
            (line,) = hosted("infinity", server.url, max_characters=5).rank(QUERY, ["river " * 4])
            assert server.requests[-1].json["documents"] == ["river"]

    def test_listwise_scores_of_several_requests_are_warned_about(self):
        with serve(FAKES["jina"]()) as server:
            reranker = JinaReranker(model="jina-reranker-v3", base_url=server.url)
            with pytest.warns(UserWarning, match="not strictly comparable"):
                assert len(reranker.rank(QUERY, texts_of(65))) == 65
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                reranker.rank(QUERY, texts_of(64))
                JinaReranker(model="jina-reranker-m0", base_url=server.url).rank(QUERY, texts_of(300))
            reranker.close()

    def test_equal_texts_are_sent_once(self):
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url) as reranker:
            lines = reranker.rank(QUERY, ["a river", "bread", "a river", "a river"])
            assert server.requests[0].json["documents"] == ["a river", "bread"]
            assert [line.previous_rank for line in lines] == [1, 3, 4, 2]
            usage = lines[0].details["usage"]
            assert (usage["documents"], usage["cached"], usage["search_units"]) == (2, 2, 1)


class TestTopN:
    def test_it_is_sent_and_what_is_left_out_is_not_missed(self):
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url, top_n=3) as reranker:
            assert order(reranker.rank(QUERY, texts_of(20))) == ranked(texts_of(20))[:3]
            assert server.requests[0].json["top_n"] == 3
            reranker.rank(QUERY, texts_of(2))
            assert server.requests[1].json["top_n"] == 2

    def test_but_not_where_a_threshold_wants_to_know_all_scores(self):
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url, top_n=3, min_score=0.5) as reranker:
            texts = ["bread", "the river flows through the city", "a train"]
            assert order(reranker.rank(QUERY, texts)) == [texts[1]]
            assert "top_n" not in server.requests[0].json

    def test_a_server_may_ignore_it(self):
        with serve(FAKES["llamacpp"](old=True)) as server, hosted("llamacpp", server.url, top_n=3) as reranker:
            assert order(reranker.rank(QUERY, texts_of(20))) == ranked(texts_of(20))[:3]

    def test_but_not_answer_fewer(self):
        with serve(FAKES["cohere"](tamper=lambda pairs: pairs[:2])) as server:
            with hosted("cohere", server.url, top_n=3) as reranker, pytest.raises(ScoreError, match="2 of 20"):
                reranker.rank(QUERY, texts_of(20))

    def test_pages(self, monkeypatch):
        open_accounts(monkeypatch)
        with serve(FAKES["bedrock"](page=7)) as server, hosted("bedrock", server.url) as reranker:
            assert order(reranker.rank(QUERY, texts_of(20))) == ranked(texts_of(20))
            assert len(server.requests) == 3
            assert order(reranker.rank(QUERY, texts_of(20), top_n=9)) == ranked(texts_of(20))[:9]


class TestTime:
    def test_the_deadline_is_for_everything(self):
        """Attempts, waits between them and requests beside each other, on threads and in event loops."""
        fake = FAKES["cohere"]()
        with serve(lambda request: replace(fake(request), wait=5)) as server:
            for fields in ({}, {"max_documents": 3}):
                reranker = hosted("cohere", server.url, deadline=0.2, timeout=30, **fields)
                documents = [Document(page_content=text) for text in texts_of(9)]
                start = time.monotonic()
                with pytest.raises(EndpointError, match="deadline"):
                    reranker.compress_documents(documents, QUERY)
                with pytest.raises(EndpointError, match="deadline"):
                    asyncio.run(reranker.acompress_documents(documents, QUERY))
                assert time.monotonic() - start < 2
                reranker.close()

    def test_a_wait_that_the_deadline_has_no_room_for_is_not_begun(self):
        fake = FAKES["cohere"]()
        refusal = fake.error(429, "slow down")
        with serve(lambda _: replace(refusal, headers={"retry-after": "20"})) as server:
            with hosted("cohere", server.url, deadline=5) as reranker:
                start = time.monotonic()
                with pytest.raises(EndpointError, match="slow down") as caught:
                    reranker.rank(QUERY, ["a"])
                assert time.monotonic() - start < 2
                assert (caught.value.status, caught.value.retry_after, caught.value.retryable) == (429, 20.0, True)

    def test_it_can_be_said_for_one_call(self):
        fake = FAKES["cohere"]()
        with serve(lambda request: replace(fake(request), wait=0.5)) as server:
            with hosted("cohere", server.url) as reranker:
                documents = [Document(page_content="a")]
                with pytest.raises(EndpointError, match="deadline"):
                    reranker.invoke({"query": QUERY, "documents": documents}, deadline=0.1)
                assert reranker.invoke({"query": QUERY, "documents": documents}, deadline=5)

    def test_a_timeout_is_tried_again(self):
        fake, slow = FAKES["cohere"](), [True]
        with serve(lambda request: replace(fake(request), wait=5 if slow and slow.pop() else 0)) as server:
            with hosted("cohere", server.url, timeout=0.3, backoff=0) as reranker:
                (line,) = reranker.rank(QUERY, ["a"])
                assert line.details["usage"]["retries"] == 1

    def test_backoff_grows(self, monkeypatch):
        pauses = []
        monkeypatch.setattr(time, "sleep", pauses.append)
        fake = FAKES["cohere"]()
        with serve(lambda _: fake.error(503, "away")) as server:
            with (
                hosted("cohere", server.url, max_retries=7, break_after=None) as reranker,
                pytest.raises(EndpointError),
            ):
                reranker.rank(QUERY, ["a"])
        for attempt, pause in enumerate(pauses):
            assert min(8, 0.5 * 2**attempt) / 2 <= pause <= min(8, 0.5 * 2**attempt)
        assert len(pauses) == 7

    def test_requests_per_minute(self, monkeypatch):
        pauses = []
        monkeypatch.setattr(time, "sleep", pauses.append)
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url, requests_per_minute=3) as reranker:
            for _ in range(4):
                reranker.rank(QUERY, ["a"])
            assert pauses == [pytest.approx(60, abs=2)]
            with pytest.raises(EndpointError, match="requests_per_minute") as caught:
                reranker.invoke({"query": QUERY, "documents": [Document(page_content="a")]}, deadline=5)
            assert caught.value.retry_after > 50
            assert len(server.requests) == 4

    def test_the_breaker_fails_fast_and_says_why(self):
        fake, down = FAKES["cohere"](), [True]
        with serve(lambda request: fake.error(503, "away") if down[0] else fake(request)) as server:
            with hosted("cohere", server.url, backoff=0, max_retries=0, break_after=3, break_seconds=0.3) as reranker:
                for _ in range(3):
                    with pytest.raises(EndpointError, match="away"):
                        reranker.rank(QUERY, ["a"])
                with pytest.raises(EndpointError, match="failed several times: it answered 503"):
                    reranker.rank(QUERY, ["a"])
                assert len(server.requests) == 3
                down[0] = False
                time.sleep(0.35)
                assert reranker.rank(QUERY, ["a"])

    def test_those_that_wait_for_their_turn_do_not_go_to_a_dead_endpoint(self):
        documents = [Document(page_content="a")]

        async def main(url):
            async with hosted("cohere", url, timeout=0.2, max_retries=0, max_concurrency=5) as reranker:
                calls = [reranker.acompress_documents(documents, QUERY) for _ in range(50)]
                return await asyncio.gather(*calls, return_exceptions=True)

        with serve(lambda _: Reply(wait=60)) as server:
            errors = asyncio.run(main(server.url))
            assert len(server.requests) < 15
        assert [type(error) for error in errors] == [EndpointError] * 50
        assert "did not answer in time" in str(errors[-1])

    def test_it_opens_for_calls_that_a_deadline_ends_too(self):
        documents = [Document(page_content="a")]

        async def main(url):
            async with hosted("cohere", url, deadline=0.2, break_after=2) as reranker:
                for _ in range(4):
                    with pytest.raises(EndpointError):
                        await reranker.acompress_documents(documents, QUERY)

        with serve(lambda _: Reply(wait=60)) as server:
            asyncio.run(main(server.url))
            assert len(server.requests) == 2
            with hosted("cohere", server.url, deadline=0.2, break_after=2) as reranker:
                for _ in range(4):
                    with pytest.raises(EndpointError):
                        reranker.compress_documents(documents, QUERY)
            assert len(server.requests) < 6  # a thread that is late says so a little later

    def test_an_open_one_asks_for_no_limit_and_a_starting_server_is_asked_again(self):
        fake, down = FAKES["tei"](max_client_batch_size=2), [True]
        with serve(lambda request: Reply({"error": "starting"}, 503) if down[0] else fake(request)) as server:
            with hosted("tei", server.url, max_retries=0, break_after=1, break_seconds=0.3) as reranker:
                for _ in range(3):
                    with pytest.raises(EndpointError):
                        reranker.rank(QUERY, texts_of(4))
                assert [request.method for request in server.requests] == ["GET", "POST"]
                down[0] = False
                time.sleep(0.35)
                assert reranker.rank(QUERY, texts_of(4))[0].details["requests"] == 2

    def test_refusals_do_not_open_it(self):
        fake = FAKES["cohere"]()
        with serve(lambda _: fake.error(401, "no")) as server, hosted("cohere", server.url, break_after=2) as reranker:
            for _ in range(5):
                with pytest.raises(EndpointError, match="401"):
                    reranker.rank(QUERY, ["a"])

    def test_nobody_there(self):
        with hosted("cohere", "http://127.0.0.1:9", backoff=0, max_retries=1) as reranker:
            with pytest.raises(EndpointError, match="could not be reached") as caught:
                reranker.rank(QUERY, ["a"])
            assert caught.value.retryable
            assert caught.value.rerank_details["usage"]["requests"] == 2

    def test_answers_that_come_later(self):
        with serve(FAKES["nvidia"](pending=2)) as server, hosted("nvidia", server.url) as reranker:
            assert order(reranker.rank(QUERY, texts_of(5))) == ranked(texts_of(5))
            assert [request.method for request in server.requests] == ["POST", "GET", "GET"]
        with serve(FAKES["nvidia"](pending=1000)) as server, hosted("nvidia", server.url, deadline=0.5) as reranker:
            with pytest.raises(EndpointError, match="deadline"):
                reranker.rank(QUERY, texts_of(5))

    def test_a_model_that_loads(self):
        with (
            serve(FAKES["localai"](loading=1, retry_after="0.05")) as server,
            hosted("localai", server.url) as reranker,
        ):
            assert reranker.rank(QUERY, ["a"])[0].details["usage"]["retries"] == 1

    def test_one_failing_request_stops_the_others(self):
        fake, seen = FAKES["cohere"](), []

        def app(request):
            seen.append(request)
            return fake.error(401, "no") if len(seen) == 1 else replace(fake(request), wait=0.05)

        with serve(app) as server, hosted("cohere", server.url, max_documents=1, max_concurrency=2) as reranker:
            with pytest.raises(EndpointError, match="401"):
                reranker.rank(QUERY, texts_of(60))
            time.sleep(0.2)
            assert len(seen) < 10
            seen.clear()
            with pytest.raises(EndpointError, match="401"):
                asyncio.run(
                    reranker.ainvoke({"query": QUERY, "documents": [Document(page_content=t) for t in texts_of(60)]})
                )
            assert len(seen) < 10


class TestConnections:
    def test_they_are_kept_between_calls(self):
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url) as reranker:
            for _ in range(5):
                reranker.rank(QUERY, texts_of(3))
            assert server.connections == 1

            async def main():
                for _ in range(5):
                    await reranker.ainvoke({"query": QUERY, "documents": [Document(page_content="a")]})

            asyncio.run(main())
            assert server.connections == 2

    @pytest.mark.parametrize("close", [True, False])
    def test_event_loops_leave_nothing_open(self, close):
        """Whether the reranker is closed, dropped before its loop ends, or lives longer than several loops."""
        opened = Path("/proc/self/fd")
        before = len(list(opened.iterdir())) if opened.exists() else None
        documents = [Document(page_content=text) for text in texts_of(50)]
        with serve(FAKES["cohere"]()) as server:
            survivor = hosted("cohere", server.url, max_documents=5)

            async def main():
                reranker = hosted("cohere", server.url, max_documents=5)
                await reranker.ainvoke({"query": QUERY, "documents": documents})
                await survivor.ainvoke({"query": QUERY, "documents": documents})
                if close:
                    await reranker.aclose()

            for _ in range(3):
                asyncio.run(main())
                gc.collect()
            survivor.close()
        gc.collect()
        if before is not None:
            assert len(list(opened.iterdir())) <= before + 1

    def test_no_more_at_once_than_allowed(self):
        fake = FAKES["cohere"]()
        documents = [Document(page_content=text) for text in texts_of(40)]
        with serve(lambda request: replace(fake(request), wait=0.02)) as server:
            with hosted("cohere", server.url, max_documents=2, max_concurrency=3) as reranker:
                with ThreadPoolExecutor(8) as threads:
                    results = list(threads.map(lambda _: reranker.compress_documents(documents, QUERY), range(8)))
                assert server.most_at_once == 3
                batch = reranker.batch([{"query": QUERY, "documents": documents}] * 4)
                asyncio.run(reranker.abatch([{"query": QUERY, "documents": documents}] * 4))
                assert server.most_at_once == 3
            expected = ranked([document.page_content for document in documents])
            assert all([d.page_content for d in result] == expected for result in [*results, *batch])

    def test_a_batch_goes_side_by_side(self):
        fake = FAKES["cohere"]()
        with (
            serve(lambda request: replace(fake(request), wait=0.1)) as server,
            hosted("cohere", server.url) as reranker,
        ):
            start = time.monotonic()
            reranker.batch([{"query": f"{QUERY} {n}", "documents": [Document(page_content="a")]} for n in range(8)])
            assert time.monotonic() - start < 0.5
            assert server.most_at_once > 4

    def test_clients_of_ones_own(self):
        with serve(FAKES["cohere"]()) as server, httpx.Client(headers={"X-Mine": "yes"}) as client:
            reranker = hosted("cohere", server.url, http_client=client)
            reranker.rank(QUERY, texts_of(3))
            assert server.requests[-1].headers["x-mine"] == "yes"
            reranker.close()
            assert not client.is_closed

            async def main():
                async with httpx.AsyncClient(headers={"X-Mine": "too"}) as client:
                    reranker = hosted("cohere", server.url, http_async_client=client)
                    await reranker.ainvoke({"query": QUERY, "documents": [Document(page_content="a")]})
                    await reranker.aclose()
                    assert not client.is_closed

            asyncio.run(main())
            assert server.requests[-1].headers["x-mine"] == "too"

    def test_clients_of_its_successor(self):
        httpx2 = pytest.importorskip("httpx2")
        with serve(FAKES["cohere"]()) as server, httpx2.Client() as client:
            assert hosted("cohere", server.url, http_client=client).rank(QUERY, texts_of(3))
        with httpx2.Client() as client, pytest.raises(EndpointError, match="could not be reached"):
            hosted("cohere", "http://127.0.0.1:9", http_client=client, max_retries=0).rank(QUERY, ["a"])

    def test_certificates_are_checked(self, tmp_path):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder(
                name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
            )
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        files = tmp_path / "certificate.pem", tmp_path / "key.pem"
        pem = serialization.Encoding.PEM
        files[0].write_bytes(certificate.public_bytes(pem))
        form = serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        with serve(FAKES["cohere"](), tls=tuple(map(str, files))) as server:
            assert server.url.startswith("https://")
            with hosted("cohere", server.url) as reranker, pytest.raises(EndpointError, match="CERTIFICATE") as caught:
                reranker.rank(QUERY, ["a"])
            assert not caught.value.retryable
            with hosted("cohere", server.url, verify=str(files[0])) as reranker:
                assert reranker.rank(QUERY, ["a"])
                documents = [Document(page_content="a")]
                assert asyncio.run(reranker.ainvoke({"query": QUERY, "documents": documents}))

    def test_a_proxy(self):
        """It gets the whole address; its password is in no repr."""
        fake = FAKES["cohere"]()
        with serve(
            lambda request: fake(replace(request, path=request.path.removeprefix("http://far.example")))
        ) as proxy:
            address = proxy.url.replace("http://", "http://me:secret-word@")
            with hosted("cohere", "http://far.example", proxy=address, allow_insecure=True) as reranker:
                assert reranker.rank(QUERY, ["a"])
                assert "secret-word" not in repr(reranker)
                assert "secret-word" not in dumps(reranker)
            assert proxy.requests[0].path == "http://far.example/v2/rerank"
            assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")

    def test_calls_that_are_cancelled_spoil_no_connection(self):
        """httpcore may leave a connection of a cancelled call in no state; the next call on it would wait in vain."""
        documents = [Document(page_content="a")]

        async def main(url):
            async with hosted("cohere", url, max_concurrency=1, timeout=1, max_retries=0) as reranker:
                for steps in range(60):
                    call = asyncio.ensure_future(reranker.acompress_documents(documents, QUERY))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    call.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await call
                    assert await reranker.acompress_documents(documents, QUERY)

        with serve(FAKES["cohere"]()) as server:
            asyncio.run(main(server.url))

    def test_after_a_fork(self):
        """Children do not write into their parent's connections."""
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url) as reranker:
            reranker.rank(QUERY, texts_of(3))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
                child = os.fork()
            if child == 0:
                os._exit(0 if order(reranker.rank(QUERY, texts_of(9))) == ranked(texts_of(9)) else 1)
            for _ in range(20):
                assert order(reranker.rank(QUERY, texts_of(9))) == ranked(texts_of(9))
            assert os.waitpid(child, 0)[1] == 0

    def test_a_closed_reranker_connects_again(self):
        with serve(FAKES["cohere"]()) as server:
            reranker = hosted("cohere", server.url)
            for _ in range(2):
                assert reranker.rank(QUERY, ["a"])
                reranker.close()
            assert server.connections == 2

    def test_closing_while_others_use_it(self):
        with serve(FAKES["cohere"]()) as server:
            reranker = hosted("cohere", server.url)
            stop = threading.Event()
            failures = []

            def use():
                while not stop.is_set():
                    try:
                        assert order(reranker.rank(QUERY, texts_of(9))) == ranked(texts_of(9))
                        reranker.batch([{"query": QUERY, "documents": [Document(page_content="a")]}] * 3)
                    except EndpointError as error:
                        failures.append(error)

            threads = [threading.Thread(target=use) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                time.sleep(0.01)
                reranker.close()
            stop.set()
            for thread in threads:
                thread.join()
            reranker.close()
            assert not failures


class TestWhatItSays:
    def test_usage_is_the_same_for_every_way_in(self):
        documents = [Document(page_content=text) for text in texts_of(5)]
        with serve(FAKES["cohere"]()) as server, hosted("cohere", server.url) as reranker:
            for document in (
                reranker.invoke({"query": QUERY, "documents": documents})[0],
                reranker.batch([{"query": QUERY, "documents": documents}] * 2)[1][0],
                asyncio.run(reranker.ainvoke({"query": QUERY, "documents": documents}))[0],
            ):
                usage = document.metadata["rerank"]["usage"]
                assert usage.pop("seconds") >= 0
                assert usage == {"requests": 1, "retries": 0, "documents": 5, "cached": 0, "search_units": 1}

    def test_a_fallback_says_what_was_spent(self):
        fake = FAKES["cohere"]()
        with serve(lambda _: fake.error(500, "no")) as server:
            with hosted("cohere", server.url, on_error="keep_order", backoff=0) as reranker:
                (document,) = reranker.invoke({"query": QUERY, "documents": [Document(page_content="a")]})
                details = document.metadata["rerank"]
                assert (details["status"], details["reason"]) == ("fallback", "EndpointError")
                assert details["usage"]["requests"] == 3

    def test_logits_become_scores_where_they_are_logits(self):
        for provider, expected in (("nvidia", True), ("llamacpp", True), ("cohere", False), ("vllm", False)):
            with serve(FAKES[provider]()) as server, hosted(provider, server.url) as reranker:
                line = reranker.rank(QUERY, ["a river flows"])[0]
                assert (line.score != line.raw_score) is expected
                assert line.score == pytest.approx(judge(QUERY, "a river flows"), abs=1e-6)
                reranker.activation = "identity"
                assert reranker.rank(QUERY, ["a river flows"])[0].score == line.raw_score

    def test_ties_keep_their_order(self):
        """TEI reverses them."""
        texts = [f"text {n}" for n in range(8)]
        with serve(FAKES["tei"](judge=lambda *_: 0.5)) as server, hosted("tei", server.url) as reranker:
            assert order(reranker.rank(QUERY, texts)) == texts

    def test_errors_have_what_a_handler_needs(self):
        with serve(FAKES["cohere"](key="another")) as server, hosted("cohere", server.url) as reranker:
            with pytest.raises(EndpointError, match="Check api_key") as caught:
                reranker.rank(QUERY, ["a"])
        assert isinstance(caught.value, OSError)
        assert (caught.value.provider, caught.value.status, caught.value.retryable) == ("cohere", 401, False)

    def test_missing_things_are_asked_for(self, monkeypatch):
        for name in ("COHERE_API_KEY", "CO_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ValueError, match="needs a model, for example 'rerank"):
            HostedReranker(provider="cohere")
        with pytest.raises(ValueError, match="api_key, or set COHERE_API_KEY or CO_API_KEY"):
            HostedReranker(provider="cohere", model="m").warmup()
        with pytest.raises(ValueError, match="needs base_url"):
            HostedReranker(provider="tei").warmup()
        with pytest.raises(ValueError, match=re.escape('params={"account_id": …}, or set CLOUDFLARE_ACCOUNT_ID')):
            HostedReranker(provider="cloudflare", model="m", api_key=KEY).warmup()

    def test_a_prefix_of_the_key_chooses_the_host(self):
        seen = []

        def answer(request):
            seen.append(request.url.host)
            return httpx.Response(200, json={"data": [{"index": 0, "relevance_score": 0.5}]})

        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            for key in ("pa-1234567", "al-1234567"):
                HostedReranker(provider="voyage", model="m", api_key=key, http_client=client).rank(QUERY, ["a"])
        assert seen == ["api.voyageai.com", "ai.mongodb.com"]

    def test_a_custom_endpoint(self):
        def app(request):
            count = len(request.json["passages"])
            return Reply({"ranked": {"list": [{"at": n, "value": n / 10} for n in range(count)]}})

        profile = {
            "path": "/mine",
            "request": {"question": "$query", "passages": {"each": {"body": "$text"}}},
            "results": "ranked.list",
            "index": "at",
            "score": "value",
        }
        with serve(app) as server, HostedReranker(provider=profile, base_url=server.url) as reranker:
            assert order(reranker.rank(QUERY, ["a", "b", "c"])) == ["c", "b", "a"]
