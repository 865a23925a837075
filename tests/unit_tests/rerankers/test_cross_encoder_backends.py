"""What `CrossEncoderReranker` promises whatever runs its model."""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_rerankkit import CrossEncoderReranker, ModelNotFoundError
from langchain_rerankkit.inference import cross_encoders, shared
from langchain_rerankkit.inference.export import export
from tests import models

BACKENDS = ["onnx", "openvino", "torch"]
QUERY = "river city"
TEXTS = models.passages(24)


def make(folder, backend="onnx", **fields):
    return CrossEncoderReranker(model=str(folder), backend=backend, device="cpu", **fields)


def raw(reranker, texts=TEXTS, query=QUERY, **options):
    ranked = reranker.rank(query, texts, **options)
    return [line.raw_score for line in sorted(ranked, key=lambda line: line.previous_rank)]


@pytest.fixture(scope="module")
def reference(every_format_folder):
    """Logits by transformers alone, one pair at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(every_format_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(every_format_folder)
    with torch.inference_mode():
        return [
            model(**tokenizer(QUERY, text, truncation="only_second", return_tensors="pt")).logits[0, 0].item()
            for text in TEXTS
        ]


@pytest.mark.parametrize(
    ("backend", "precision", "tolerance"),
    [
        ("onnx", "fp32", 1e-3),
        ("onnx", "fp16", 2e-2),
        ("openvino", "fp32", 1e-3),
        ("openvino", "bf16", 2e-2),
        ("openvino", "fp16", 2e-2),
        ("torch", "fp32", 1e-3),
        ("torch", "bf16", 2e-2),
    ],
)
def test_backends_agree(every_format_folder, reference, backend, precision, tolerance):
    scores = raw(make(every_format_folder, backend, precision=precision))
    assert scores == pytest.approx(reference, abs=tolerance)
    assert max(reference) - min(reference) > 0.05  # there is something to agree about


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_heads_and_layouts(tmp_path, backend, labels):
    """FlashRank's layout beside that of sentence-transformers."""
    folder = models.save_flashrank(tmp_path / "flashrank", labels)
    if backend == "torch":
        models.save_cross_encoder(folder, labels)
    expected = raw(make(models.save_cross_encoder(tmp_path / "ce", labels), "torch", precision="fp32"))
    assert raw(make(folder, backend, precision="fp32")) == pytest.approx(expected, abs=2e-3)


def test_a_graph_of_openvino_itself(every_format_folder, reference, tmp_path):
    import openvino

    core = openvino.Core()
    (tmp_path / "openvino").mkdir()
    openvino.save_model(
        core.read_model(every_format_folder / "onnx" / "model.onnx"),
        tmp_path / "openvino" / "openvino_model.xml",
        compress_to_fp16=False,
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (tmp_path / name).write_bytes((every_format_folder / name).read_bytes())
    for backend in ("openvino", "auto"):
        reranker = make(tmp_path, backend, precision="fp32")
        assert raw(reranker) == pytest.approx(reference, abs=1e-3)
        assert "openvino fp32 CPU" in repr(reranker)


SMALL = {
    "vocab_size": len(models.vocabulary()),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.2,
    "num_labels": 1,
    "pad_token_id": 0,
}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True}
MODERN = {"num_hidden_layers": 4, "global_attn_every_n_layers": 2, "local_attention": 16}
ARCHITECTURES = {
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "Electra": {"embedding_size": 16},
    "XLMRoberta": {"pad_token_id": 1, "max_position_embeddings": 514, "type_vocab_size": 1},
    "DebertaV2": {**DEBERTA, "type_vocab_size": 0, "pooler_hidden_size": 32, "norm_rel_ebd": "layer_norm"},
    "ModernBert": {**MODERN, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "MPNet": {"pad_token_id": 1, "max_position_embeddings": 514},
    "Albert": {"embedding_size": 16},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_that_people_use_can_be_exported(tmp_path, capfd, name):
    """A traced graph must not remember the shapes that it was traced with."""
    import torch
    import transformers

    torch.manual_seed(0)
    models.save_cross_encoder(tmp_path)
    tokenizer = tmp_path / "tokenizer_config.json"
    settings = json.loads(tokenizer.read_text())
    if name not in {"Electra", "Albert"}:
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    tokenizer.write_text(json.dumps(settings))
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **ARCHITECTURES[name]})
    network = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    network.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about some of these
        export(str(tmp_path), tmp_path, precisions=["fp32", "fp16"])
        expected = raw(make(tmp_path, "torch", precision="fp32"))
    assert max(expected) - min(expected) > 0.05
    capfd.readouterr()
    for backend, precision, tolerance in [
        ("onnx", "fp32", 1e-3),
        ("openvino", "fp32", 1e-3),
        ("openvino", "bf16", 4e-2),
        ("onnx", "fp16", 4e-2),
    ]:
        assert raw(make(tmp_path, backend, precision=precision)) == pytest.approx(expected, abs=tolerance), backend
    assert capfd.readouterr() == ("", "")


def test_roberta_counts_positions_from_two(tmp_path):
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    models.save_cross_encoder(tmp_path)
    config = RobertaConfig(
        vocab_size=len(models.vocabulary()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=2,
        num_labels=1,
        pad_token_id=1,
    )
    RobertaForSequenceClassification(config).eval().save_pretrained(tmp_path)
    export(str(tmp_path), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    ranked = make(tmp_path).rank(QUERY, ["river " * 300])
    assert ranked[0].details["truncated"] is True


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_text_is_cut_and_it_is_said(every_format_folder, backend):
    reranker = make(every_format_folder, backend, max_length=32)
    long, short = "bridge museum " * 100, "bridge"
    documents = reranker.invoke(
        {"query": "which river", "documents": [Document(page_content=long), Document(page_content=short)]}
    )
    details = {document.page_content: document.metadata["rerank"] for document in documents}
    assert details[long]["truncated"] is True
    assert "truncated" not in details[short]
    assert details[short]["backend"].startswith({"onnx": "onnxruntime"}.get(backend, backend))
    kept = " ".join(long.split()[: 32 - 3 - 2])
    assert raw(reranker, [long], "which river") == pytest.approx(raw(reranker, [kept], "which river"), abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_documents_in_chunks(every_format_folder, backend):
    words = random.Random(0).choices(models.WORDS, k=200)
    text = " ".join(words)
    fields = {"max_length": 40, "chunk_overlap": 8}
    whole = make(every_format_folder, backend, long_documents="chunk", **fields)
    (best,) = whole.rank(QUERY, [text])
    size, step = 40 - 3 - 2, 40 - 3 - 2 - 8
    starts = [*range(0, 200 - size, step), 200 - size]
    parts = [" ".join(words[start : start + size]) for start in starts]
    scores = raw(make(every_format_folder, backend, **fields), parts)
    assert best.details["chunks"] == len(parts)
    assert best.raw_score == pytest.approx(max(scores), abs=1e-4)
    start, stop = best.details["best_span"]
    assert text[start:stop] == parts[scores.index(max(scores))]
    assert "truncated" not in best.details
    mean, first = (
        raw(make(every_format_folder, backend, long_documents="chunk", chunk_score=how, **fields), [text])
        for how in ("mean", "first")
    )
    assert mean == pytest.approx([sum(scores) / len(scores)], abs=1e-4)
    assert first == pytest.approx([scores[0]], abs=1e-4)
    with pytest.raises(ValueError, match="longer than the 35 tokens"):
        make(every_format_folder, backend, long_documents="error", **fields).rank(QUERY, [text])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(data=st.data())
def test_batches_mix_queries_and_score_equal_pairs_once(every_format_folder, data):
    reranker = make(every_format_folder, batch_tokens=data.draw(st.sampled_from([8, 64, 512])))
    choose = st.lists(st.sampled_from(TEXTS[:6]), max_size=8)
    inputs = [
        {"query": query, "documents": [Document(page_content=text) for text in data.draw(choose)]}
        for query in data.draw(st.lists(st.sampled_from(["river", "which city"]), min_size=1, max_size=4))
    ]
    passes = reranker.warmup()._ready().passes
    rows, run = [], passes._run
    passes._run = lambda batch: rows.extend(batch) or run(batch)
    try:
        together = reranker.batch(inputs)
    finally:
        passes._run = run
    assert len(rows) == len({(one["query"], document.page_content) for one in inputs for document in one["documents"]})
    for one, ranked in zip(inputs, together, strict=True):
        apart = reranker.invoke(one)
        assert [d.page_content for d in ranked] == [d.page_content for d in apart]
        assert [d.metadata["relevance_score"] for d in ranked] == pytest.approx(
            [d.metadata["relevance_score"] for d in apart], abs=1e-5
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_model_in_a_process_until_it_is_closed(every_format_folder, backend, no_shared_models):
    first, second = make(every_format_folder, backend, top_n=1), make(every_format_folder, backend, top_n=2)
    other = make(every_format_folder, backend, threads=1)
    with first, second:
        assert first._ready() is second._ready()
        assert first._ready() is not other._ready()
        # Made anew for each call, as configurable_fields does.
        assert make(every_format_folder, backend).rank(QUERY, ["a"])[0].raw_score
        assert len(shared._models) == 2
        first.close()
        assert second._ready() is make(every_format_folder, backend)._ready()
    other.close()
    import gc

    gc.collect()
    assert len(shared._models) == 0
    assert first.rank(QUERY, ["again"])  # a closed reranker loads again
    first.close()


def test_models_nobody_uses_do_not_pile_up(no_shared_models):
    class Model:
        pass

    for number in range(20):
        shared.shared(number, Model)
    assert len(shared._models) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_says_what_it_runs_on(every_format_folder, backend):
    reranker = make(every_format_folder, backend, precision="fp32")
    assert "runtime" not in repr(reranker)
    runtime = {"onnx": "onnxruntime fp32 CPU", "openvino": "openvino fp32 CPU", "torch": "torch fp32 CPU"}[backend]
    assert f"runtime='{runtime}'" in repr(reranker.warmup())
    assert reranker.rank(QUERY, ["a"])[0].details == {"backend": runtime}


@pytest.mark.parametrize(
    ("there", "bf16", "precision", "device", "expected"),
    [
        ("onnx openvino torch", False, "auto", None, ["onnx", "openvino", "torch"]),
        ("onnx openvino torch", True, "auto", None, ["openvino", "onnx", "torch"]),
        ("onnx openvino torch", True, "fp32", "cpu", ["onnx", "openvino", "torch"]),
        ("onnx openvino torch", False, "int8", None, ["onnx", "openvino"]),
        ("onnx openvino torch", False, "bf16", None, ["openvino", "torch"]),
        ("onnx openvino torch", False, "auto", "cuda:1", ["torch", "onnx"]),
        ("openvino torch", False, "auto", None, ["openvino", "torch"]),
        ("torch", False, "auto", None, ["torch"]),
    ],
)
def test_the_fastest_installed_backend(monkeypatch, there, bf16, precision, device, expected):  # noqa: PLR0917
    modules = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "sentence_transformers"}
    names = {modules[name] for name in there.split()}
    monkeypatch.setattr(cross_encoders, "installed", lambda module: module in names)
    monkeypatch.setattr(cross_encoders, "native_bf16", lambda: bf16)
    assert cross_encoders.backends(precision, device) == expected


def test_a_precision_that_nothing_computes(every_format_folder):
    with pytest.raises(ValueError, match="no bf16"):
        make(every_format_folder, "onnx", precision="bf16").warmup()
    with pytest.raises(ValueError, match="no int8"):
        make(every_format_folder, "torch", precision="int8").warmup()
    with pytest.raises(ValueError, match="no device 'cuda'"):
        CrossEncoderReranker(model=str(every_format_folder), backend="onnx", device="cuda").warmup()
    with pytest.raises(ValidationError):
        make(every_format_folder, precision="int4")


def test_a_processor_without_bf16_says_so(every_format_folder, caplog, no_shared_models):
    from langchain_rerankkit.inference.onnx import native_bf16

    if native_bf16():
        pytest.skip("this processor has bf16")
    reranker = make(every_format_folder, "openvino", precision="bf16").warmup()
    assert "computes in fp32" in caplog.text
    assert "openvino fp32 CPU" in repr(reranker)


def test_no_torch_is_imported_and_the_graph_is_alone_enough(every_format_folder, tmp_path):
    for name in ("onnx/model.onnx", "tokenizer.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((every_format_folder / name).read_bytes())
    code = """
import sys
from langchain_rerankkit import CrossEncoderReranker
for backend in ("onnx", "openvino", "auto"):
    print(CrossEncoderReranker(model=sys.argv[1], backend=backend, precision="fp32").rank("river", ["city"])[0].raw_score)
print(sorted({"torch", "transformers", "sentence_transformers", "onnx"} & set(sys.modules)))
"""
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert float(output[0]) == pytest.approx(float(output[1]), abs=1e-3)
    assert output[3] == "[]"


def test_no_pickle_is_loaded(every_format_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((every_format_folder / "config.json").read_bytes())
    (tmp_path / "model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelNotFoundError, match="has no graph"):
        make(tmp_path, "openvino").warmup()
    import torch

    models.save_cross_encoder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(models.make_bert().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match="safetensors"):
        make(tmp_path, "torch").warmup()


async def test_the_event_loop_goes_on_while_a_model_works(every_format_folder):
    reranker = make(every_format_folder, batch_tokens=64).warmup()
    documents = [Document(page_content=text) for text in models.passages(150)]
    running, longest = True, 0.0

    async def tick():
        nonlocal longest
        while running:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start)

    ticking = asyncio.create_task(tick())
    start = time.perf_counter()
    results = await asyncio.gather(
        *(reranker.ainvoke({"query": f"river {n}", "documents": documents}) for n in range(4))
    )
    seconds, running = time.perf_counter() - start, False
    await ticking
    assert [len(result) for result in results] == [150] * 4
    assert longest < seconds / 2, (longest, seconds)


def stress(folder, backend, requests):
    """32 threads, mixed sizes; every answer is compared with the serial run's."""
    reranker = make(folder, backend, precision="fp32")  # whose scores do not depend on the texts beside it
    choose = random.Random(0)
    pool = [*models.passages(40), "", "same", "same"]
    cases = []
    for number in range(32):
        size = choose.choice([0, 1, 2, 5, 10, 40])
        cases.append((f"{choose.choice(models.WORDS)} {number}", choose.choices(pool, k=size)))
    expected = [raw(reranker, texts, query) for query, texts in cases]
    barrier = threading.Barrier(32)

    def work(thread):
        barrier.wait()
        order = random.Random(thread)
        for _ in range(requests):
            number = order.randrange(len(cases))
            query, texts = cases[number]
            assert raw(reranker, texts, query) == pytest.approx(expected[number], abs=1e-4)
        return requests

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(work, range(32))) == 32 * requests


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_threads(every_format_folder, backend):
    stress(every_format_folder, backend, requests=4)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_32_threads_of_200_requests(every_format_folder, backend):
    stress(every_format_folder, backend, requests=200)


@pytest.mark.slow
def test_the_benchmark_runs_all_systems():
    from langchain_rerankkit.bench.report import run_bench, table

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other packages
        result = run_bench(candidates=12, curve=(10, 20), rounds=1, shape=shape)
    names = [row["system"] for row in result["systems"]]
    assert {"rerankkit onnx fp32", "rerankkit openvino fp32", "flashrank fp32", "fastembed int8"} <= set(names)
    for row in result["systems"]:
        assert row["seconds"] > 0
        assert row["difference"] < 0.05, row
        assert row["first_s"] > 0
        assert row["torch"] == float(any(word in row["system"] for word in ("torch", "sentence", "rerankers"))), row
    assert all(name in table(result) for name in names)
