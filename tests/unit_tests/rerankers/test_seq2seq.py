import gc
import json
import math
import weakref

import pytest
from pydantic import ValidationError

from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.pairs import Limits
from langchain_rerankkit.inference.seq2seq import Prompt
from langchain_rerankkit.rerankers.seq2seq import Seq2SeqReranker
from langchain_rerankkit.testing import RerankerTests
from tests import models

QUERY = "which river flows through the city?"
TEXTS = [*models.passages(10), "The {city} {query} of {text} and {0}.", "  A bridge,\n\n in nine  hours! "]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("t5")
    return {
        "monot5": models.save_t5(root / "monot5-tiny"),
        "v1.1": models.save_t5(
            root / "inranker", tied=False, tie_word_embeddings=False, feed_forward_proj="gated-gelu"
        ),
        "mt5": models.save_t5(root / "mt5-base-mmarco", "MT5ForConditionalGeneration", tied=False),
        "rankt5": models.save_t5(root / "RankT5-base"),
        "encoder": models.save_t5(root / "encoder", "T5ForTokenClassification", num_labels=1),
        "classifier": models.save_t5(root / "classifier", "T5ForSequenceClassification", num_labels=1),
        "graded": models.save_t5(root / "graded", "T5ForSequenceClassification", num_labels=3),
    }


@pytest.fixture
def make(folders):
    def make(name, **fields):
        return Seq2SeqReranker(**{"model": str(folders[name]), "device": "cpu", "precision": "fp32", **fields})

    return make


class Seq2SeqTests(RerankerTests):
    required_module = "transformers"
    name, fields = "monot5", {"precision": "fp32"}

    @pytest.fixture(autouse=True)
    def _model(self, folders, no_shared_models):
        self.folder = str(folders[self.name])

    def make_reranker(self, **fields):
        return Seq2SeqReranker(model=self.folder, device="cpu", **self.fields, **fields)


class TestSeq2SeqReranker(Seq2SeqTests):
    pass


class TestSeq2SeqRerankerBf16(Seq2SeqTests):
    fields = {"precision": "bf16"}
    tolerance = 2e-2


class TestSeq2SeqRerankerRankT5(Seq2SeqTests):
    name = "rankt5"


class TestSeq2SeqRerankerEncoder(Seq2SeqTests):
    name, fields = "encoder", {"kind": "encoder", "precision": "fp32"}


class TestSeq2SeqRerankerClassifier(Seq2SeqTests):
    name = "classifier"


def raw_scores(reranker, query=QUERY, texts=TEXTS):
    return [line.raw_score for line in sorted(reranker.rank(query, texts), key=lambda line: line.previous_rank)]


def logits(folder, kind, prompts):
    """The model's outputs by transformers alone, one prompt (or pair) at a time."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    decoder = {"decoder_input_ids": torch.zeros(1, 1, dtype=torch.long)} if "Generation" in kind else {}
    with torch.inference_mode():
        for prompt in prompts:
            given = tokenizer(*([prompt] if isinstance(prompt, str) else prompt), return_tensors="pt")
            yield tokenizer, model(**given, **decoder).logits[0]


@pytest.mark.parametrize(
    ("name", "words", "fields"),
    [
        ("monot5", ("false", "true"), {}),
        ("v1.1", ("false", "true"), {}),
        ("mt5", ("no", "yes"), {"kind": "monot5", "relevant": "yes", "irrelevant": "no"}),
        ("monot5", ("▁", "yes"), {"relevant": "yes", "irrelevant": "▁"}),
    ],
)
def test_monot5(folders, make, name, words, fields):
    prompts = [f"Query: {QUERY} Document: {text} Relevant:" for text in TEXTS]
    expected = []
    for tokenizer, row in logits(folders[name], f"{'M' if name == 'mt5' else ''}T5ForConditionalGeneration", prompts):
        ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
        assert [len(tokens) for tokens in ids] == [1, 1]
        false, true = row[0][[ids[0][0], ids[1][0]]].tolist()
        expected.append(true - false)
    assert max(expected) - min(expected) > 0.05
    ranked = make(name, **fields).rank(QUERY, TEXTS)
    by_text = sorted(ranked, key=lambda line: line.previous_rank)
    assert [line.raw_score for line in by_text] == pytest.approx(expected, abs=1e-4)
    assert [line.score for line in by_text] == pytest.approx([1 / (1 + math.exp(-x)) for x in expected], abs=1e-4)
    assert ranked[0].details["backend"] == "torch fp32 CPU"


def test_the_last_layer_of_its_own_is_loaded(folders):
    from transformers import MT5ForConditionalGeneration

    model = MT5ForConditionalGeneration.from_pretrained(folders["mt5"])
    assert not model.lm_head.weight.equal(model.shared.weight)


def test_rankt5(folders, make):
    prompts = [f"Query: {QUERY} Document: {text}" for text in TEXTS]
    rows = logits(folders["rankt5"], "T5ForConditionalGeneration", prompts)
    expected = [row[0][tokenizer.convert_tokens_to_ids("<extra_id_10>")].item() for tokenizer, row in rows]
    assert raw_scores(make("rankt5")) == pytest.approx(expected, abs=1e-4)
    assert raw_scores(make("monot5", kind="rankt5")) == pytest.approx(expected, abs=1e-4)


def test_rankt5_on_the_encoder_alone(folders, make):
    prompts = [f"Query: {QUERY} Document: {text}" for text in TEXTS]
    expected = [row[0].item() for _, row in logits(folders["encoder"], "T5ForTokenClassification", prompts)]
    assert max(expected) - min(expected) > 0.05
    assert raw_scores(make("encoder", kind="encoder")) == pytest.approx(expected, abs=1e-4)


def test_classifiers(folders, make):
    pairs = [(QUERY, text) for text in TEXTS]
    expected = [row[0].item() for _, row in logits(folders["classifier"], "T5ForSequenceClassification", pairs)]
    assert raw_scores(make("classifier")) == pytest.approx(expected, abs=1e-4)
    prompts = [f"{QUERY} about {text}" for text in TEXTS]
    expected = [row[0].item() for _, row in logits(folders["classifier"], "T5ForSequenceClassification", prompts)]
    assert raw_scores(make("classifier", prompt="{query} about {text}")) == pytest.approx(expected, abs=1e-4)
    graded = logits(folders["graded"], "T5ForSequenceClassification", pairs)
    expected = [row.double().softmax(dim=0)[2].item() for _, row in graded]
    ranked = make("graded", kind="classifier", label=2).rank(QUERY, TEXTS)
    scores = [line.score for line in sorted(ranked, key=lambda line: line.previous_rank)]
    assert scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "template",
    [
        "Query: {query} Document: {text} Relevant:",
        "{query} and {text}",
        "Document: {text}\nQuery:\n {query} true?",
        "{}{0} {query} {} {text} }",
    ],
)
def test_prompts_have_the_ids_of_the_whole(template):
    tokenizer = models.make_t5_tokenizer()
    prompt = Prompt(tokenizer.to_str(), template)
    for query in (QUERY, " a {text}? "):
        for text in [*TEXTS, "\t", "<extra_id_3> yes", "an unknown word: Ω."]:
            (head, _), (ids, _) = prompt.heads([query, text], 1000)
            values = {"{query}": query, "{text}": text}
            places = sorted(values, key=template.index)
            first, rest = template.split(places[0])
            second, third = rest.split(places[1])
            whole = first + values[places[0]] + second + values[places[1]] + third
            assert prompt.pair(head, ids).ids.tolist() == tokenizer.encode(whole).ids


def test_another_prompt_is_used(folders, make):
    prompts = [f"Document: {text} Query: {QUERY} Relevant:" for text in TEXTS]
    ids = models.make_t5_tokenizer().token_to_id
    rows = [row[0] for _, row in logits(folders["monot5"], "T5ForConditionalGeneration", prompts)]
    expected = [(row[ids("▁true")] - row[ids("▁false")]).item() for row in rows]
    scores = raw_scores(make("monot5", prompt="Document: {text} Query: {query} Relevant:"))
    assert scores == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="put a blank around"):
        make("monot5", prompt="Query:{query} Document:{text}").warmup()


@pytest.mark.parametrize("name", ["monot5", "encoder", "classifier"])
def test_padding_changes_nothing(make, name):
    fields = {"kind": "encoder"} if name == "encoder" else {}
    together = raw_scores(make(name, batch_tokens=100_000, **fields))
    assert together == pytest.approx(raw_scores(make(name, batch_tokens=1, **fields)), abs=1e-4)


def test_only_the_text_is_cut(make):
    reranker = make("monot5", max_length=40)
    model = reranker._ready()
    text = " ".join(["river", "bread", "museum"] * 40)
    (cut,) = model.encode([(QUERY, text)], Limits(pair=40), None)
    words = models.make_t5_tokenizer()
    tail = words.encode("Relevant:").ids
    head = words.encode(f"Query: {QUERY} Document:", add_special_tokens=False).ids
    (row,) = cut.rows
    assert (len(row.ids), cut.truncated) == (40, True)
    assert row.ids.tolist()[: len(head)] == head
    assert row.ids.tolist()[-len(tail) :] == tail
    kept = " ".join(text.split()[: 40 - len(head) - len(tail)])
    (line,), (expected,) = reranker.rank(QUERY, [text]), reranker.rank(QUERY, [kept])
    assert line.raw_score == pytest.approx(expected.raw_score, abs=1e-5)
    assert line.details["truncated"] is True
    assert "truncated" not in expected.details
    with pytest.raises(ValueError, match="longer than the"):
        make("monot5", max_length=40, long_documents="error").rank(QUERY, [text])


def test_chunks_and_lengths_beyond_512(make):
    text = " ".join(models.passages(12, seed=3))
    (line,) = make("monot5", long_documents="chunk").rank(QUERY, [text])
    start, stop = line.details["best_span"]
    assert line.details["chunks"] > 1
    assert line.raw_score == pytest.approx(raw_scores(make("monot5"), texts=[text[start:stop]])[0], abs=1e-4)
    (whole,) = make("monot5", max_length=4000).rank(QUERY, [text])
    assert "truncated" not in whole.details
    assert make("monot5").rank(QUERY, [text])[0].details["truncated"] is True
    assert make("monot5", max_length=None).rank(QUERY, [text])[0].details["truncated"] is True


@pytest.mark.parametrize("name", ["monot5", "rankt5", "encoder", "classifier"])
def test_bf16_is_close_and_does_not_tie(make, name):
    import torch

    fields = {"kind": "encoder"} if name == "encoder" else {}
    exact, half = (torch.tensor(raw_scores(make(name, precision=p, **fields))) for p in ("fp32", "bf16"))
    assert half.tolist() == pytest.approx(exact.tolist(), abs=0.1 * exact.std().item() + 3e-2)
    assert (half != half.bfloat16().float()).sum() > len(TEXTS) / 2


def test_an_instruction_comes_before_the_query(make):
    expected = raw_scores(make("monot5"), query=f"bread {QUERY}")
    assert raw_scores(make("monot5", instruction="bread ")) == pytest.approx(expected, abs=1e-5)


def test_equal_pairs_are_scored_once(make, monkeypatch):
    reranker = make("monot5")
    model, seen = reranker._ready(), []
    outputs = model.passes.outputs
    monkeypatch.setattr(model.passes, "outputs", lambda rows, budget: seen.extend(rows) or outputs(rows, budget))
    reranker.rank(QUERY, ["the river"] * 5 + ["bread"])
    assert len(seen) == 2


def test_rerankers_share_a_model_and_close_frees_it(make, no_shared_models):
    one, other = make("monot5").warmup(), make("monot5", top_n=1).warmup()
    assert one._ready() is other._ready()
    assert "torch fp32 CPU" in repr(one)
    model = weakref.ref(one._ready())
    network = weakref.ref(one._ready()._network)
    one.close()
    assert model() is not None
    other.close()
    gc.collect()
    assert model() is None
    assert network() is None


def test_a_model_of_unknown_kind_is_no_guess(folders, make, tmp_path):
    plain = models.save_t5(tmp_path / "my-model")
    with pytest.raises(ValueError, match=r"Set kind='monot5' .* 'rankt5'"):
        make("monot5", model=str(plain)).warmup()
    assert raw_scores(make("monot5", model=str(plain), kind="monot5")) == pytest.approx(raw_scores(make("monot5")))
    with pytest.raises(ValueError, match="T5ForTokenClassification"):
        make("encoder").warmup()
    with pytest.raises(ValueError, match="answers no prompt"):
        make("classifier", kind="monot5").warmup()
    with pytest.raises(ModelNotFoundError, match=r"lacks weights that kind='encoder' needs, classifier"):
        make("monot5", kind="encoder").warmup()
    with pytest.raises(ModelNotFoundError, match="lacks weights that kind='classifier'"):
        make("monot5", kind="classifier").warmup()
    with pytest.raises(ValueError, match="set relevant='yes'"):
        make("mt5", kind="monot5").warmup()
    with pytest.raises(ValueError, match="leave out relevant"):
        make("rankt5", relevant="yes", irrelevant="no").warmup()


def test_a_model_of_another_family(make, cross_encoder_folder):
    with pytest.raises(ValueError, match="not of the T5 family: try CrossEncoderReranker"):
        make("monot5", model=str(cross_encoder_folder)).warmup()


@pytest.mark.parametrize("word", ["sim", "maybe", "Ω"])
def test_answers_that_are_no_tokens(make, word):
    reranker = make("monot5", relevant=word, irrelevant="no")
    if word == "sim":
        reranker.warmup()
        return
    with pytest.raises(ValueError, match=f"The answer '{word}' is not a token"):
        reranker.warmup()


def test_a_model_that_is_not_there(make, folders, tmp_path):
    for model in ("nowhere/monot5", "/no/such/folder"):
        with pytest.raises(ModelNotFoundError, match="could not be loaded"):
            make("monot5", model=model, local_files_only=True).warmup()
    pickles = tmp_path / "monot5-pickles"
    pickles.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (pickles / name).write_bytes((folders["monot5"] / name).read_bytes())
    (pickles / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(ModelNotFoundError, match="Pickles are never read"):
        make("monot5", model=str(pickles)).warmup()
    (pickles / "config.json").write_text(json.dumps({"model_type": "t5"})[:-1])
    with pytest.raises(ModelNotFoundError, match="could not be loaded"):
        make("monot5", model=str(pickles)).warmup()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backend": "onnx"}, "runs on torch only"),
        ({"backend": "openvino"}, "runs on torch only"),
        ({"precision": "int8"}, "no int8"),
        ({"label": 1}, "set kind='classifier'"),
        ({"prompt": "Query: {query}"}, "each once"),
        ({"prompt": "{query} {text} {text}"}, "each once"),
        ({"relevant": "yes"}, "set both"),
        ({"relevant": "yes", "irrelevant": "yes"}, "to different words"),
        ({"kind": "rankt5", "relevant": "yes", "irrelevant": "no"}, "has none"),
        ({"trust_remote_code": True}, "revision"),
        ({"model": ""}, "model"),
        ({"kind": "t5"}, "kind"),
    ],
)
def test_fields_that_do_not_go_together(fields, message):
    with pytest.raises(ValidationError, match=message):
        Seq2SeqReranker(**{"model": "monot5", **fields})
