import json
import logging
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from pydantic import ValidationError

import langchain_rerankkit
from langchain_rerankkit import LateInteractionReranker, ModelNotFoundError, ScoreError
from langchain_rerankkit.inference.token_encoder import _chunks
from langchain_rerankkit.inference.tokens import Tokenizer
from langchain_rerankkit.testing import RerankerTests
from tests import models

QUERY = "which river flows through the city?"
TEXTS = [*models.passages(14), "bread, cheese.", "?", "[MASK] [PAD] river [SEP]"]
LAYOUTS = ["sentence-transformers", "pylate", "stanford"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("late-interaction")
    made = {layout: models.save_late_interaction(root / layout, layout) for layout in LAYOUTS}
    made["no expansion"] = models.save_late_interaction(root / "no-expansion", expansion=False)
    made["mean"] = models.save_late_interaction(root / "mean", expansion=False, similarity="meanmaxsim")
    made["other weights"] = models.save_late_interaction(root / "other-weights", seed=1)
    return made


@pytest.fixture
def make(folders):
    def make(name="sentence-transformers", **fields):
        return LateInteractionReranker(**{"model": str(folders[name]), "device": "cpu", "precision": "fp32", **fields})

    return make


class LateInteractionTests(RerankerTests):
    required_module = "sentence_transformers"

    @pytest.fixture(autouse=True)
    def _model(self, folders, no_shared_models, tmp_path):
        self.folder, self.store = str(folders["no expansion"]), str(tmp_path / "store")

    def make_reranker(self, **fields):
        return LateInteractionReranker(**{"model": self.folder, "device": "cpu", "precision": "fp32", **fields})


class TestLateInteractionReranker(LateInteractionTests):
    pass


class TestLateInteractionRerankerWithStore(LateInteractionTests):
    def make_reranker(self, **fields):
        return super().make_reranker(store=self.store, **fields)


def lines_of(reranker, query=QUERY, texts=TEXTS, **options):
    return sorted(reranker.rank(query, texts, **options), key=lambda line: line.previous_rank)


def scores_of(*arguments, **options):
    return [line.score for line in lines_of(*arguments, **options)]


def colbert(folder, query, texts):
    """ColBERT's scores by transformers alone: a text at a time, so without padding, and MaxSim in a plain loop."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    bert = BertModel.from_pretrained(folder).eval()
    weights = load_file(folder / "model.safetensors")
    linear = weights.get("linear.weight")
    if linear is None:
        linear = load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]
    ids_of = tokenizer.convert_tokens_to_ids
    names = models.LATE_INTERACTION

    def read(text, marker, limit, filled):
        own = tokenizer(text, add_special_tokens=False).input_ids[: limit - 3]
        ids = [ids_of("[CLS]"), ids_of(marker), *own, ids_of("[SEP]")]
        mask = [1] * len(ids) + [0] * (
            limit - len(ids) if filled else 0
        )  # nobody attends to what queries are filled with
        ids += [ids_of("[MASK]")] * (len(mask) - len(ids))
        with torch.inference_mode():
            hidden = bert(torch.tensor([ids]), torch.tensor([mask])).last_hidden_state[0]
        vectors = (hidden @ linear.T).double().tolist()
        return ids, [[value / math.hypot(*vector) for value in vector] for vector in vectors]

    _, asked = read(query, names["query"].strip(), names["query_length"], filled=True)
    assert len(asked) == 32
    skipped = {ids_of(mark) for mark in (".", ",", "?")}
    for text in texts:
        ids, vectors = read(text, names["document"].strip(), names["document_length"], filled=False)
        kept = [vector for id_, vector in zip(ids, vectors, strict=True) if id_ not in skipped]
        yield sum(max(sum(a * b for a, b in zip(one, other, strict=True)) for other in kept) for one in asked)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["pylate", "stanford"])
@pytest.mark.parametrize(
    "query", [QUERY, "river", "where is the museum of modern art when the train leaves for the coast?"]
)
def test_scores_are_colberts(folders, make, layout, query):
    expected = list(colbert(folders[layout], query, TEXTS))
    assert max(expected) - min(expected) > 0.5
    assert scores_of(make(layout), query) == pytest.approx(expected, abs=1e-4)


def encoder(folder):
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("name", [*LAYOUTS, "no expansion", "mean"])
def test_scores_are_those_of_sentence_transformers(folders, make, name):
    model = encoder(folders[name])
    expected = model.similarity(model.encode_query([QUERY]), model.encode_document(TEXTS))[0].tolist()
    assert scores_of(make(name)) == pytest.approx(expected, abs=1e-4)
    assert scores_of(make(name, batch_tokens=70)) == pytest.approx(expected, abs=1e-4)
    assert scores_of(LateInteractionReranker(client=model)) == pytest.approx(expected, abs=1e-4)


def test_bf16_scores_nearly_alike(make):
    (line, *_) = lines = lines_of(make("no expansion", precision="bf16"))
    assert line.details["backend"] == "torch bf16 CPU"
    assert [line.score for line in lines] == pytest.approx(scores_of(make("no expansion")), abs=0.1)


def test_padding_never_counts(make):
    """A query mask that is ignored shows where a short query goes through the model beside a long one."""
    reranker = make("no expansion")
    queries = ["river", QUERY, "the museum of modern art opens at nine and the train leaves every hour"]
    alone = [scores_of(reranker, query) for query in queries]
    together = reranker.batch(
        [{"query": query, "documents": [Document(page_content=text) for text in TEXTS]} for query in queries]
    )
    for scores, documents in zip(alone, together, strict=True):
        assert [d.metadata["relevance_score"] for d in documents] == pytest.approx(
            sorted(scores, reverse=True), abs=1e-4
        )
    one_by_one = [scores_of(reranker, QUERY, [text])[0] for text in TEXTS]
    assert alone[1] == pytest.approx(one_by_one, abs=1e-4)


def test_the_score_is_the_sum_over_the_querys_vectors_and_their_mean_on_request(folders, make):
    tokens = len(encoder(folders["no expansion"]).encode_query([QUERY])[0])
    sums = scores_of(make("no expansion"))
    assert max(sums) > 2  # cosines: a mean would be at most 1
    means = scores_of(make("no expansion", similarity="meanmaxsim"))
    assert [mean * tokens for mean in means] == pytest.approx(sums, abs=1e-4)
    assert all(-1 <= mean <= 1 for mean in means)
    assert scores_of(make("mean")) == pytest.approx(means, abs=1e-4)
    assert scores_of(make("mean", similarity="maxsim")) == pytest.approx(sums, abs=1e-4)
    # Queries filled up to 32 have scores up to 32.
    assert max(scores_of(make(), "river", ["river"])) > 16


def test_threads_are_torchs(make, monkeypatch, no_shared_models):
    import torch

    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    make().warmup()
    assert asked == []
    make(threads=3).warmup()
    assert asked == [3]


def test_what_lacks_the_layer_for_tokens_is_refused(folders, cross_encoder_folder, tmp_path):
    for folder in (cross_encoder_folder, folders["sentence-transformers"] / "bert"):
        with pytest.raises(ModelNotFoundError, match="would score at random"):
            LateInteractionReranker(model=str(folder), device="cpu").warmup()
    single = tmp_path / "single-vector"
    shutil.copytree(folders["pylate"], single)
    (single / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "SentenceTransformer"}))
    with pytest.raises(ModelNotFoundError, match="no late-interaction model"):
        LateInteractionReranker(model=str(single), device="cpu").warmup()


def test_pickles_are_never_read(folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folders["pylate"], folder)
    (folder / "1_Dense" / "model.safetensors").rename(folder / "1_Dense" / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match=r"pytorch_model\.bin is a pickle"):
        LateInteractionReranker(model=str(folder), device="cpu").warmup()


def test_a_model_that_is_nowhere_is_said_to_be(tmp_path):
    for model in ("some/model", str(tmp_path / "nothing")):
        with pytest.raises(ModelNotFoundError, match=r"existing folder|no folder"):
            LateInteractionReranker(model=model, cache_dir=str(tmp_path)).warmup()


def test_a_model_of_the_hubs_cache_needs_no_network(folders, make, tmp_path):
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    shutil.copytree(folders["stanford"], snapshot)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    expected = scores_of(make("stanford"))
    for fields in ({"local_files_only": True}, {"revision": "0" * 40}):  # and HF_HUB_OFFLINE is set
        assert scores_of(make(model="some/model", cache_dir=str(tmp_path), **fields)) == pytest.approx(expected)


def test_a_damaged_model_is_said_to_be(folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folders["pylate"], folder)
    (folder / "1_Dense" / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="could not be loaded"):
        LateInteractionReranker(model=str(folder), device="cpu").warmup()


LONG = " ".join(models.passages(6))


def test_the_beginning_of_a_long_document_is_read_and_that_is_said(make):
    lines = lines_of(make(), QUERY, ["a river", LONG, LONG + " bread" * 60_000])
    assert ["truncated" in line.details for line in lines] == [False, True, True]
    assert lines[1].score == pytest.approx(lines[2].score, abs=1e-4)
    cut = " ".join(LONG.split()[:57])  # 60 less CLS, SEP and the marker; every word is a token
    (line,) = lines_of(make(), QUERY, [cut])
    assert "truncated" not in line.details
    assert line.score == pytest.approx(lines[1].score, abs=1e-4)
    (line,) = lines_of(make(), QUERY, [" ".join(LONG.split()[:58])])
    assert line.details["truncated"] is True


def test_max_length_may_be_beyond_the_checkpoints_but_not_beyond_the_models(folders, make):
    model = encoder(folders["sentence-transformers"])
    model[0].document_length = 300
    (expected,) = model.similarity(model.encode_query([QUERY]), model.encode_document([LONG]))[0].tolist()
    assert scores_of(make(max_length=300), QUERY, [LONG]) == pytest.approx([expected], abs=1e-4)
    assert scores_of(make(max_length=5000), QUERY, [LONG * 9]) == pytest.approx(
        scores_of(make(max_length=512), QUERY, [LONG * 9]), abs=1e-4
    )
    with pytest.raises(ValidationError):
        make(max_length=0)


def test_a_long_document_in_chunks_is_read_to_its_end(folders, make):
    chunked = make(long_documents="chunk")
    end = LONG + " cheese museum bread"
    (line,) = lines_of(chunked, QUERY, [end])
    words = end.split()
    assert line.details["chunks"] == 1 + math.ceil((len(words) - 57) / (57 - 32))
    assert "truncated" not in line.details
    model = encoder(folders["sentence-transformers"])
    starts = [*range(0, len(words) - 57, 25), len(words) - 57]
    parts = model.encode_document([" ".join(words[start : start + 57]) for start in starts])
    vectors = np.concatenate([part.numpy() for part in parts])
    query = model.encode_query([QUERY])[0].numpy()
    assert line.score == pytest.approx(float((query @ vectors.T).max(axis=1).sum()), abs=1e-4)
    # Whatever the first chunk finds, the whole finds as well.
    assert line.score >= scores_of(make(), QUERY, [end])[0] - 1e-4
    assert scores_of(chunked, QUERY, TEXTS[-3:]) == pytest.approx(scores_of(make(), QUERY, TEXTS[-3:]), abs=1e-4)


WORDS = [
    "the",
    "of",
    "immunohistochemistry",
    "phosphatidylinositol",
    "antidisestablishmentarianism",
    "x" * 60,
    "naïve",
    "日本語",
]


@pytest.fixture(scope="module")
def tokenizers():
    """Of BERT, and one of words' pieces by probability, which cuts the beginning of a word in other ways than the word."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    bert = Path(langchain_rerankkit.__file__).parent / "embedded" / "tokenizer.json"
    pieces = dict.fromkeys(sorted({*"".join(WORDS), *"0123456789-▁"}), -9.0)
    pieces |= {word[at : at + size]: -1.0 * size for word in WORDS[2:5] for at in (1, 5, 9) for size in (4, 7)}
    unigram = Library(models.Unigram([("<unk>", -20.0), *pieces.items()], unk_id=0))
    unigram.pre_tokenizer, unigram.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return [Tokenizer(bert.read_text()), Tokenizer(unigram.to_str())]


@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=60),
    between=st.sampled_from(["", " ", "  \n", "-"]),
    room=st.integers(5, 90),
    kind=st.integers(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_every_part_of_a_long_document_fits_and_together_they_cover_it(tokenizers, words, between, room, kind):
    text = between.join(f"{word}{number}" for number, word in enumerate(words))
    end = 0
    for part, tokens in _chunks(tokenizers[kind], text, room):
        assert tokens == len(tokenizers[kind].spans(part)[0]) <= room
        unread = len(text) - len(text[end:].lstrip())
        place = text.rfind(part, 0, unread + len(part))  # begins there or before
        assert place >= 0
        end = max(end, place + len(part))
    assert end == len(text)


def test_a_long_document_is_an_error_on_request(make):
    with pytest.raises(ValueError, match="longer than the 57 tokens that the model reads"):
        make(long_documents="error").rank(QUERY, [LONG])


def test_a_long_query_is_cut_and_that_is_said(make):
    for name in ("sentence-transformers", "no expansion"):
        lines = lines_of(make(name), "which river " * 40, ["a river", "bread"])
        assert all(line.details["truncated"] for line in lines)
        assert not any("truncated" in line.details for line in lines_of(make(name), "river " * 29, ["a river"]))


def count_passes(reranker):
    """Texts of each pass of the model, from now on."""
    seen = []
    model = reranker.warmup()._ready().encoder.model
    for task in ("query", "document"):
        original = getattr(type(model), f"encode_{task}")

        def counted(texts, *arguments, task=task, original=original, **options):
            seen.append((task, list(texts)))
            return original(model, texts, *arguments, **options)

        setattr(model, f"encode_{task}", counted)
    return seen


def test_several_requests_go_through_the_model_together_and_each_text_once(make, no_shared_models):
    reranker = make(batch_tokens=10_000)
    seen = count_passes(reranker)
    documents = [Document(page_content=text) for text in ("a river", "bread", "a river", "nine")]
    inputs = [{"query": query, "documents": documents[start:]} for query, start in (("a", 0), ("b", 2), ("a", 1))]
    results = reranker.batch(inputs)
    assert [len(result) for result in results] == [4, 2, 3]
    assert [(task, sorted(texts)) for task, texts in seen] == [
        ("query", ["a", "b"]),
        ("document", ["a river", "bread", "nine"]),
    ]


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_with_a_store_only_the_query_is_encoded(make, tmp_path, no_shared_models, kind):
    plain = scores_of(make())
    first = make(store=tmp_path, store_precision=kind)
    cold = lines_of(first)
    assert [line.score for line in cold] == pytest.approx(plain, abs=0.05 if kind == "int8" else 5e-3)
    assert not any("stored" in line.details for line in cold)
    first.close()
    second = make(store=str(tmp_path), store_precision=kind)
    seen = count_passes(second)
    warm = lines_of(second)
    assert [line.score for line in warm] == [line.score for line in cold]
    assert all(line.details["stored"] for line in warm)
    assert [line.details.get("truncated") for line in warm] == [line.details.get("truncated") for line in cold]
    assert seen == [("query", [QUERY])]
    assert "stored" not in lines_of(second, QUERY, [*TEXTS, "a new one"])[-1].details
    assert seen[1:] == [("query", [QUERY]), ("document", ["a new one"])]


def test_documents_are_encoded_ahead(make, tmp_path, no_shared_models):
    reranker = make(store=tmp_path, document_text=["title"])
    documents = [Document(page_content=text, metadata={"title": "river"}) for text in TEXTS]
    assert reranker.encode_documents([*documents, documents[0], "  ", Document(page_content="")]) == len(TEXTS)
    assert reranker.encode_documents([*documents, "a text"]) == 1
    assert all(line.details["stored"] for line in reranker.rank(QUERY, documents))
    with pytest.raises(ValueError, match="set store=<folder>"):
        make().encode_documents(documents)


def stores(folder):
    return {path.name for path in folder.iterdir()}


def test_what_changes_a_vector_has_vectors_of_its_own(folders, make, tmp_path):
    known = set()
    for name, fields in (
        ("sentence-transformers", {}),
        ("sentence-transformers", {"store_precision": "fp16"}),
        ("sentence-transformers", {"max_length": 100}),
        ("sentence-transformers", {"long_documents": "chunk"}),
        ("other weights", {}),
        ("pylate", {}),
    ):
        make(name, store=tmp_path, **fields).encode_documents(["a river"])
        assert len(stores(tmp_path) - known) == 1
        known = stores(tmp_path)
    prompted = encoder(folders["sentence-transformers"])
    prompted.prompts["document"] = "a "
    LateInteractionReranker(client=prompted, store=tmp_path).encode_documents(["a river"])
    assert len(stores(tmp_path) - known) == 1


def test_what_does_not_change_a_vector_but_for_rounding_shares_them(folders, make, tmp_path):
    make(store=tmp_path).encode_documents(TEXTS)
    known = stores(tmp_path)
    moved = tmp_path / "moved"
    shutil.copytree(folders["sentence-transformers"], moved)
    for other in (
        make(store=tmp_path, precision="bf16", batch_tokens=99, top_n=3),
        make(store=tmp_path, model=str(moved), max_length=60),
        LateInteractionReranker(client=encoder(moved), store=tmp_path),
    ):
        texts = TEXTS[-3:]
        assert all(line.details["stored"] for line in other.rank(QUERY, texts))
    assert stores(tmp_path) - {"moved"} == known


def test_long_documents_that_are_an_error_are_so_with_a_store_too(make, tmp_path):
    make(store=tmp_path).encode_documents([LONG])
    with pytest.raises(ValueError, match="longer than the 57 tokens"):
        make(store=tmp_path, long_documents="error").rank(QUERY, [LONG])


def test_a_client_that_is_trained_further_has_vectors_of_its_new_weights(folders, tmp_path):
    import torch

    client = encoder(folders["no expansion"])
    reranker = LateInteractionReranker(client=client, store=tmp_path)
    before = scores_of(reranker)
    with torch.no_grad():
        for weights in client.parameters():
            weights.add_(torch.randn_like(weights) * 0.3)
    expected = scores_of(LateInteractionReranker(client=client))
    assert expected != pytest.approx(before, abs=0.5)
    reranker.close()
    for number, again in enumerate((LateInteractionReranker(client=client, store=tmp_path), reranker)):
        lines = lines_of(again)
        assert [line.score for line in lines] == pytest.approx(expected, abs=0.05)
        assert all(line.details.get("stored", False) is (number == 1) for line in lines)


def test_a_client_that_is_trained_stays_so(folders):
    client = encoder(folders["no expansion"])
    expected = scores_of(LateInteractionReranker(client=client))
    client.train()
    client[1].eval()
    modes = [module.training for module in client.modules()]
    assert set(modes) == {True, False}
    assert scores_of(LateInteractionReranker(client=client)) == expected
    assert [module.training for module in client.modules()] == modes


def test_a_random_pooler_does_not_make_another_model(folders, make):
    """Checkpoints of ColBERT often lack BERT's pooler, which no token's vector goes through."""
    model = encoder(folders["sentence-transformers"])
    model[0].model.pooler.dense.weight.data.normal_()
    client = LateInteractionReranker(client=model)._ready().encoder
    assert client.identity(None, "truncate") == make()._ready().encoder.identity(None, "truncate")


def test_a_damaged_record_is_encoded_again(make, tmp_path, caplog):
    expected = scores_of(make(store=tmp_path))
    (data,) = tmp_path.glob("*/vectors.bin")
    content = bytearray(data.read_bytes())
    content[:400] = bytes(400)
    data.write_bytes(content)
    lines = lines_of(make(store=tmp_path))
    assert [line.score for line in lines] == pytest.approx(expected, abs=1e-4)
    assert not all("stored" in line.details for line in lines)
    assert "damaged token vectors" in caplog.text
    assert all("stored" in line.details for line in lines_of(make(store=tmp_path)))


def test_a_full_disk_does_not_stop_the_search(make, tmp_path, caplog, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    expected = scores_of(make(store=tmp_path / "roomy"))
    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING):
        assert scores_of(make(store=tmp_path / "full")) == pytest.approx(expected, abs=1e-4)
    assert "Token vectors are not kept" in caplog.text
    with pytest.raises(OSError, match="No space left"):
        make(store=tmp_path / "full").encode_documents(TEXTS)


def test_a_model_that_is_not_finite_is_no_scores(folders, tmp_path):
    broken = encoder(folders["no expansion"])
    broken[1].linear.weight.data.fill_(math.nan)
    for fields in ({}, {"store": tmp_path}):
        with pytest.raises(ScoreError, match="not finite"):
            LateInteractionReranker(client=broken, **fields).rank(QUERY, TEXTS)
    assert len(lines_of(LateInteractionReranker(client=broken, on_nan="last", store=tmp_path))) == len(TEXTS)


def test_many_candidates_are_scored_part_by_part(make, monkeypatch, tmp_path):
    from langchain_rerankkit.rerankers import late_interaction

    expected = scores_of(make())
    monkeypatch.setattr(late_interaction, "_TEXTS", 4)
    assert scores_of(make()) == pytest.approx(expected, abs=1e-4)
    stored = make(store=tmp_path)
    assert stored.encode_documents(TEXTS) == len(TEXTS)
    assert scores_of(stored) == pytest.approx(expected, abs=0.05)


def test_unfit_fields_are_refused(cross_encoder_folder):
    from sentence_transformers import CrossEncoder

    for fields, message in (
        ({}, "needs a model"),
        (
            {"client": CrossEncoder(str(cross_encoder_folder), device="cpu")},
            "must be a sentence_transformers.MultiVector",
        ),
        ({"model": "a", "trust_remote_code": True}, "pin it with revision"),
        ({"model": "a", "similarity": "cosine"}, "maxsim"),
    ):
        with pytest.raises(ValidationError, match=message):
            LateInteractionReranker(**fields)
    with pytest.raises(ValueError, match="not run in int8"):
        LateInteractionReranker(model="a", precision="int8").warmup()
