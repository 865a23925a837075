"""``rerankkit doctor`` and ``rerankkit rerank --provider``."""

import json

import pytest

from langchain_rerankkit import EndpointError, ScoreError
from langchain_rerankkit.cli import main
from tests.hosted import KEY, hosted, open_accounts
from tests.rerank_fakes import FAKES
from tests.rerank_server import Reply, serve


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    open_accounts(monkeypatch)
    monkeypatch.setenv("MY_KEY", KEY)


LOGITS = {"nvidia", "llamacpp", "watsonx"}


@pytest.mark.parametrize("provider", sorted(set(FAKES) - {"vertex"}))
def test_every_provider(provider):
    with serve(FAKES[provider](key=KEY if provider not in {"bedrock", "volcengine"} else None)) as server:
        with hosted(provider, server.url) as reranker:
            found = reranker.diagnose()
    assert found.sensible
    assert found.pointwise
    assert found.logits == (provider in LOGITS)
    assert found.top_n != "ignored"
    assert found.order == ("as sent" if provider in {"deepinfra", "volcengine", "vllm-score"} else "best first")
    assert "activation" not in str(found)
    assert len(server.requests) <= 4
    assert found.url in str(found)


def test_an_old_llamacpp(capsys):
    with serve(FAKES["llamacpp"](old=True, key=KEY)) as server:
        assert main(["doctor", "--provider", "llamacpp", "--base-url", server.url, "--api-key-env", "MY_KEY"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["order"] == "as sent; the answer is first"
    assert said["top_n"] == "ignored"
    assert said["scores"].endswith("logits")
    assert said["limit"] == "256 documents at once (not asked: from the profile)"


@pytest.mark.parametrize(
    ("provider", "variant", "limit"),
    [
        ("tei", {"max_client_batch_size": 4}, "4 documents at once (the server says)"),
        ("tei", {"info": False}, "32 documents at once (tried)"),
        ("cohere", {"limit": 100}, "64 documents at once (tried)"),
        ("vllm", {}, "1024 documents at once (at least; no more were tried)"),
    ],
)
def test_limits(provider, variant, limit):
    with serve(FAKES[provider](**variant)) as server, hosted(provider, server.url) as reranker:
        assert limit in str(reranker.diagnose(limits=True))


def test_a_model_that_judges_nothing():
    with serve(FAKES["vllm"](judge=lambda *_: 0.5)) as server, hosted("vllm", server.url) as reranker:
        found = reranker.diagnose()
        assert not found.sensible
        assert "NOT first" in str(found)


def test_a_qwen_on_llamacpp_whose_scores_are_no_logits():
    with serve(FAKES["llamacpp"](unit=True)) as server, hosted("llamacpp", server.url) as reranker:
        assert "between 0 and 1, set activation='identity'" in str(reranker.diagnose())


def test_a_listwise_model():
    fake = FAKES["jina"]()

    def app(request):
        reply = fake(request)
        count = len(request.json["documents"])
        results = [result | {"relevance_score": result["relevance_score"] / count} for result in reply.body["results"]]
        return Reply(reply.body | {"results": results})

    with serve(app) as server, hosted("jina", server.url) as reranker:
        assert "listwise" in str(reranker.diagnose())


def test_what_goes_wrong_is_said(capsys):
    with serve(FAKES["cohere"](key="another")) as server:
        assert main(["doctor", "--provider", "cohere", "--base-url", server.url, "--model", "m"]) == 2
        assert "401 Unauthorized" in capsys.readouterr().err
        assert main(["doctor", "--provider", "tei", "--base-url", server.url]) == 2
        assert "It has /rerank and no /v1/rerank" in capsys.readouterr().err
    assert main(["doctor", "--provider", "ollama"]) == 2
    assert capsys.readouterr().err.startswith("rerankkit: Ollama has no rerank endpoint")
    assert main(["doctor", "--provider", "tei", "--base-url", "http://127.0.0.1:9", "--api-key-env", "NO_KEY"]) == 2
    assert "NO_KEY is not set" in capsys.readouterr().err
    with serve(lambda _: Reply({"results": []})) as server, hosted("cohere", server.url) as reranker:
        with pytest.raises(EndpointError, match="0 of 4"):
            reranker.diagnose()
    with (
        serve(FAKES["cohere"](tamper=lambda pairs: [pairs[0]] * 4)) as server,
        hosted("cohere", server.url) as reranker,
    ):
        with pytest.raises(ScoreError, match="twice"):
            reranker.diagnose()


def test_rerank_by_an_endpoint(capsys, tmp_path):
    file = tmp_path / "passages.txt"
    file.write_text("bread\na river in the city\nthe city\n")
    arguments = ["rerank", "the river", str(file), "--top-n", "2"]
    with serve(FAKES["tei"](key=KEY)) as server:
        endpoint = ["--provider", "tei", "--base-url", server.url, "--api-key-env", "MY_KEY"]
        assert main([*arguments, *endpoint]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["a river in the city", "the city"]
    assert main([*arguments, "--base-url", "http://127.0.0.1:9"]) == 2
    assert "need --provider" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--provider", "tei", "--reranker", "lexical"])
    with serve(FAKES["watsonx"]()) as server:
        watsonx = ["--provider", "watsonx", "--base-url", server.url, "--model", "m"]
        options = ["--param", "project_id=mine", "--option", 'parameters={"truncate_input_tokens": 9}']
        assert main([*arguments, *watsonx, *options]) == 0
        assert server.requests[0].json["project_id"] == "mine"
        assert server.requests[0].json["parameters"]["truncate_input_tokens"] == 9
    assert main([*arguments, *watsonx, "--param", "project_id"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
