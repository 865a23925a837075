import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.cross_encoders import BaseCrossEncoder
from pydantic import ValidationError

from langchain_rerankkit import CrossEncoderReranker, ModelNotFoundError, ScoreError
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.rerankers.local import log_odds
from langchain_rerankkit.testing import RerankerTests
from tests import models


class CrossEncoderTests(RerankerTests):
    backend = precision = "auto"

    @pytest.fixture(autouse=True)
    def _model(self, every_format_folder, no_shared_models):
        self.folder = str(every_format_folder)

    def make_reranker(self, **fields):
        return CrossEncoderReranker(
            model=self.folder, device="cpu", backend=self.backend, precision=self.precision, **fields
        )


class TestCrossEncoderReranker(CrossEncoderTests):
    required_module = "tokenizers"
    tolerance = 2e-2  # bf16 where the processor has it


class TestTorchFp32(CrossEncoderTests):
    backend, precision, required_module = "torch", "fp32", "sentence_transformers"


class TestTorchBf16(CrossEncoderTests):
    backend, precision, required_module = "torch", "bf16", "sentence_transformers"
    tolerance = 2e-2


class TestOnnxFp32(CrossEncoderTests):
    backend, precision, required_module = "onnx", "fp32", "onnxruntime"


class TestOnnxFp16(CrossEncoderTests):
    backend, precision, required_module = "onnx", "fp16", "onnxruntime"
    tolerance = 5e-3


class TestOnnxInt8(CrossEncoderTests):
    backend, precision, required_module = "onnx", "int8", "onnxruntime"
    tolerance = 5e-2  # what flows through the model is quantised by the range of the whole pass


class TestOpenVinoFp32(CrossEncoderTests):
    backend, precision, required_module = "openvino", "fp32", "openvino"


class TestOpenVinoBf16(CrossEncoderTests):
    backend, precision, required_module = "openvino", "bf16", "openvino"
    tolerance = 2e-2


class TestOpenVinoFp16(CrossEncoderTests):
    backend, precision, required_module = "openvino", "fp16", "openvino"
    tolerance = 5e-3


class TestOpenVinoInt8(CrossEncoderTests):
    backend, precision, required_module = "openvino", "int8", "openvino"
    tolerance = 5e-2


class OverlapCrossEncoder(BaseCrossEncoder):
    def score(self, text_pairs):
        return [len(set(query) & set(text)) / 30 + len(text) / 1e4 for query, text in text_pairs]


class TestCrossEncoderRerankerWithClient(RerankerTests):
    def make_reranker(self, **fields):
        return CrossEncoderReranker(client=OverlapCrossEncoder(), **fields)

    @pytest.mark.skip(reason="a client object is not part of a dump")
    def test_16_dump_and_load(self):
        pass


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Folders of models with one, two and three labels."""
    return {n: models.save_cross_encoder(tmp_path_factory.mktemp(f"labels-{n}"), labels=n) for n in (1, 2, 3)}


def by_text(ranked, attribute):
    return [getattr(line, attribute) for line in sorted(ranked, key=lambda line: line.previous_rank)]


TEXTS = models.passages(12)


def logits(folder):
    """The model's logits by transformers alone, one pair at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [
            model(**tokenizer("river city", text, truncation=True, return_tensors="pt")).logits[0].tolist()
            for text in TEXTS
        ]


def test_one_label(heads):
    ranked = CrossEncoderReranker(model=str(heads[1]), device="cpu", precision="fp32").rank("river city", TEXTS)
    expected = [row[0] for row in logits(heads[1])]
    assert by_text(ranked, "raw_score") == pytest.approx(expected, abs=1e-4)
    assert by_text(ranked, "score") == pytest.approx([1 / (1 + math.exp(-x)) for x in expected], abs=1e-4)
    plain = CrossEncoderReranker(model=str(heads[1]), device="cpu", precision="fp32", activation="identity").rank(
        "river city", TEXTS
    )
    assert by_text(plain, "score") == by_text(plain, "raw_score")


@pytest.mark.parametrize(("labels", "label", "chosen"), [(2, None, 1), (2, 0, 0), (3, 2, 2), (3, 0, 0)])
def test_several_labels_score_the_softmax_of_the_chosen_one(heads, labels, label, chosen):
    import torch

    ranked = CrossEncoderReranker(model=str(heads[labels]), device="cpu", precision="fp32", label=label).rank(
        "river city", TEXTS
    )
    expected = torch.tensor(logits(heads[labels])).double().softmax(dim=1)[:, chosen]
    assert by_text(ranked, "score") == pytest.approx(expected.tolist(), abs=1e-4)


def test_more_than_two_labels_need_a_choice(heads):
    with pytest.raises(ScoreError, match="3 labels: say which"):
        CrossEncoderReranker(model=str(heads[3]), device="cpu", precision="fp32").rank("river city", TEXTS)
    with pytest.raises(ScoreError, match="label=7 does not exist"):
        CrossEncoderReranker(model=str(heads[3]), device="cpu", precision="fp32", label=7).rank("river city", TEXTS)


@given(st.lists(st.floats(-500, 500), min_size=2, max_size=6), st.data())
def test_log_odds_is_the_inverse_of_softmax(row, data):
    label = data.draw(st.integers(0, len(row) - 1))
    highest = max(row)
    total = math.fsum(math.exp(x - highest) for x in row)
    assert sigmoid(log_odds(row, label)) == pytest.approx(math.exp(row[label] - highest) / total, abs=1e-9)


def test_a_saturated_score_keeps_the_order_of_the_logits():
    class Saturated(BaseCrossEncoder):
        def score(self, text_pairs):
            return [40.0, 60.0, 50.0]

    ranked = CrossEncoderReranker(client=Saturated(), activation="sigmoid").rank("q", ["a", "b", "c"])
    assert [line.score for line in ranked] == [1.0, 1.0, 1.0]
    assert [line.raw_score for line in ranked] == [60.0, 50.0, 40.0]


def test_clients(heads):
    from sentence_transformers import CrossEncoder

    expected = CrossEncoderReranker(model=str(heads[1]), device="cpu", precision="fp32").rank("river city", TEXTS)
    model = CrossEncoder(str(heads[1]), device="cpu")
    for client in (model, WithScore(model)):
        ranked = CrossEncoderReranker(client=client).rank("river city", TEXTS)
        assert by_text(ranked, "score") == pytest.approx(by_text(expected, "score"), abs=1e-4)


class WithScore(BaseCrossEncoder):
    """As langchain-community's HuggingFaceCrossEncoder does: scores after the model's own activation, as an array."""

    def __init__(self, model):
        self.model = model

    def score(self, text_pairs):
        return self.model.predict(text_pairs)


def test_the_cross_encoder_of_langchain_community(heads):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package says that it is sunset
        community = pytest.importorskip("langchain_community.cross_encoders")
        client = community.HuggingFaceCrossEncoder(model_name=str(heads[1]), model_kwargs={"device": "cpu"})
    ranked = CrossEncoderReranker(client=client).rank("river city", TEXTS)
    expected = CrossEncoderReranker(model=str(heads[1]), device="cpu", precision="fp32").rank("river city", TEXTS)
    assert by_text(ranked, "score") == pytest.approx(by_text(expected, "score"), abs=1e-4)


def test_a_short_answer_of_a_client_is_an_error():
    class Short(BaseCrossEncoder):
        def score(self, text_pairs):
            return [1.0]

    with pytest.raises(ScoreError, match="1 scores for 3 pairs"):
        CrossEncoderReranker(client=Short()).rank("q", ["a", "b", "c"])


def test_two_rerankers_may_share_a_model_across_threads(heads):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(heads[1]), device="cpu")
    rerankers = [CrossEncoderReranker(client=model), CrossEncoderReranker(client=model, batch_tokens=64)]
    expected = by_text(rerankers[0].rank("river city", TEXTS), "raw_score")
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: rerankers[n % 2].rank("river city", TEXTS), range(32)))
    for ranked in results:
        assert by_text(ranked, "raw_score") == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A language model as a reranker: no padding token, a chat template, yes and no as answers."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as tokenizer_models
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    words = ["<unk>", "<end>", "yes", "no", "task", *models.WORDS, "nonsense"]
    words = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(tokenizer_models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<end>",
        model_max_length=128,
        padding_side="left",
    )
    fast.chat_template = (
        "task {{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | join }} "
        "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | join }} "
        "{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | join }} yes"
    )
    config = Qwen3Config(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        initializer_range=0.3,
        eos_token_id=1,
    )
    folder = tmp_path_factory.mktemp("language-model")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def test_a_language_model_without_padding_scores_batches(language_model):
    together = CrossEncoderReranker(model=language_model, device="cpu", precision="fp32").rank("river city", TEXTS)
    apart = CrossEncoderReranker(model=language_model, device="cpu", precision="fp32", batch_tokens=1).rank(
        "river city", TEXTS
    )
    assert by_text(together, "raw_score") == pytest.approx(by_text(apart, "raw_score"), abs=1e-3)


@pytest.mark.parametrize("kind", ["one label", "three labels", "language model"])
def test_scores_in_half_precision_do_not_tie(heads, language_model, kind):
    """The last layer computes in full precision; in bf16, logits near 10 would be 1/16 apart."""
    import torch

    folder = {"one label": heads[1], "three labels": heads[3], "language model": language_model}[kind]
    fields = {"model": str(folder), "device": "cpu", "backend": "torch", "label": 2 if kind == "three labels" else None}
    exact, half = (
        torch.tensor(
            by_text(CrossEncoderReranker(precision=precision, **fields).rank("river city", TEXTS), "raw_score")
        )
        for precision in ("fp32", "bf16")
    )
    assert half.tolist() == pytest.approx(exact.tolist(), abs=0.05 * exact.std().item() + 2e-2)
    assert (half != half.bfloat16().float()).sum() > len(TEXTS) / 2


def test_a_language_model_reads_the_beginning_or_all_of_a_long_text(language_model):
    words = ["river", "city", "bread", "cheese", "museum"] * 60
    text = " ".join(words)
    reranker = CrossEncoderReranker(model=language_model, device="cpu", precision="fp32", max_length=64)
    (cut,) = reranker.rank("river city", [text])
    room = 64 - 4  # "task", the query's two words, "yes"
    (kept,) = reranker.rank("river city", [" ".join(words[:room])])
    assert cut.details["truncated"] is True
    assert "truncated" not in kept.details
    assert cut.raw_score == pytest.approx(kept.raw_score, abs=1e-5)
    chunked = CrossEncoderReranker(
        model=language_model, device="cpu", precision="fp32", max_length=64, long_documents="chunk"
    )
    (best,) = chunked.rank("river city", [text])
    start, stop = best.details["best_span"]
    assert best.raw_score == pytest.approx(reranker.rank("river city", [text[start:stop]])[0].raw_score, abs=1e-4)
    assert best.raw_score >= kept.raw_score - 1e-4
    with pytest.raises(ValueError, match="longer than the 60 tokens"):
        CrossEncoderReranker(
            model=language_model, device="cpu", precision="fp32", max_length=64, long_documents="error"
        ).rank("river city", [text])


def test_an_instruction_reaches_the_template(language_model):
    plain = CrossEncoderReranker(model=language_model, device="cpu", precision="fp32")
    instructed = CrossEncoderReranker(
        model=language_model, device="cpu", precision="fp32", instruction="nonsense river"
    )
    scores = by_text(instructed.rank("river city", TEXTS), "raw_score")
    assert scores != pytest.approx(by_text(plain.rank("river city", TEXTS), "raw_score"), abs=1e-3)
    per_call = plain.rank("river city", TEXTS, instruction="nonsense river")
    assert by_text(per_call, "raw_score") == pytest.approx(scores, abs=1e-5)


def test_without_a_template_the_instruction_comes_before_the_query(heads):
    reranker = CrossEncoderReranker(model=str(heads[1]), device="cpu", precision="fp32")
    expected = by_text(reranker.rank("bread river city", TEXTS), "raw_score")
    instructed = reranker.rank("river city", TEXTS, instruction="bread ")
    assert by_text(instructed, "raw_score") == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValidationError, match="takes no instruction"):
        CrossEncoderReranker(client=OverlapCrossEncoder(), instruction="find rivers")


@pytest.mark.parametrize("model", ["nowhere/nothing", "/no/such/folder"])
def test_a_missing_model(model):
    with pytest.raises(ModelNotFoundError, match=r"could not be loaded|There is no folder"):
        CrossEncoderReranker(model=model, local_files_only=True).warmup()


def test_fields_that_do_not_go_together():
    with pytest.raises(ValidationError, match="needs a model"):
        CrossEncoderReranker()
    with pytest.raises(ValidationError, match="must be a BaseCrossEncoder"):
        CrossEncoderReranker(client=object())
    with pytest.raises(ValidationError, match="revision"):
        CrossEncoderReranker(model="x", trust_remote_code=True)
    with pytest.raises(ValidationError):
        CrossEncoderReranker(model="x", batch_tokens=0)
