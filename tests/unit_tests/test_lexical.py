import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.lexical import UNSPACED, TermStatistics, analyser, bm25, bm25_limit, words

letters = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(query=letters, texts=st.lists(letters, min_size=1, max_size=8), k1=st.floats(0, 3), b=st.floats(0, 1))
def test_bm25_agrees_with_bm25s(query, texts, k1, b):
    bm25s = pytest.importorskip("bm25s", reason="bm25s is an independent implementation to compare with")
    if not any(texts) or not query:
        return
    vocabulary = {term: n for n, term in enumerate("abcdefgh")}
    index = bm25s.BM25(method="lucene", k1=k1, b=b)
    ids = [[vocabulary[term] for term in text] for text in texts]
    index.index((ids, vocabulary), show_progress=False)
    expected = index.get_scores_from_ids([vocabulary[term] for term in query])
    statistics = TermStatistics.from_terms(texts, language=None)
    assert bm25(query, texts, statistics, k1=k1, b=b) == pytest.approx(expected, abs=1e-4)


@given(query=letters, texts=st.lists(letters, min_size=1, max_size=8))
def test_no_text_exceeds_the_limit(query, texts):
    statistics = TermStatistics.from_terms(texts, language=None)
    limit = bm25_limit(query, statistics)
    assert all(0 <= score <= limit for score in bm25(query, texts, statistics))


def test_words_are_folded_and_stemmed():
    assert analyser("english")("Running runs: the RIVER's_bridges, 3.5") == [
        *("run", "run", "the", "river", "s", "bridg", "3", "5")
    ]
    assert analyser(None)("Straße école") == ["strasse", "école"]


def test_scripts_without_spaces_are_cut_into_pairs():
    assert analyser(None)("東京都 is 京") == ["東京", "京都", "is", "京"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("العَرَبِيَّة، لغة", ["العَرَبِيَّة", "لغة"]),
        ("cafe\u0301 CAFE\u0301S", ["café", "cafés"]),
        ("x\u0304_x\u0304 \u0304x", ["x\u0304", "x\u0304", "x"]),
        ("1\ufe0f\u20e3 ❤\ufe0f a", ["1", "a"]),
        ("\U0001e900\U0001e944\U0001e900 \U0001e944 a\U0001f600", ["\U0001e922\U0001e944\U0001e922", "a"]),
        ("한국어", ["한국", "국어"]),
        ("か\u3099いる", ["がい", "いる"]),
    ],
)
def test_marks_are_parts_of_words(text, expected):
    assert words(text) == expected
    assert words(unicodedata.normalize("NFD", text)) == expected


@given(
    st.text(
        st.one_of(st.characters(), st.sampled_from("aeé\u0301\u0316\u0345\u03b1\u1fb3क\u093f가\u1100が\u3099")),
        max_size=20,
    )
)
def test_a_text_has_the_same_words_however_its_accents_are_written(text):
    assert words(unicodedata.normalize("NFC", text)) == words(unicodedata.normalize("NFD", text)) == words(text)


def marks(text):
    """Which signs are marks that are parts of words."""
    spaceless = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f]")
    return [
        unicodedata.category(sign) in {"Mn", "Mc"}
        and not re.match(rf"[{UNSPACED}\ufe00-\ufe0f\U000e0100-\U000e01ef]", sign)
        and not spaceless.match(sign)
        for sign in text
    ]


@given(st.text(st.one_of(st.characters(), st.sampled_from("ab_ -1京都アß\u0301\u0304\u093fกิ\ufe0f")), max_size=30))
def test_words_are_runs_of_letters_with_their_marks_and_pairs_of_unspaced_ones(text):
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    # "u" for an unspaced sign, "w" for another letter or digit, "m" for a mark, "-" for what is between words.
    kinds = "".join(
        "m" if mark else "u" if re.match(f"[{UNSPACED}]", sign) else "w" if re.match(r"[^\W_]", sign) else "-"
        for sign, mark in zip(text, marks(text), strict=True)
    )
    expected = []
    for found in re.finditer(r"u+|w[wm]*", kinds):
        run = text[slice(*found.span())]
        pairs = kinds[found.start()] == "u" and len(run) > 1
        expected += [run[n : n + 2] for n in range(len(run) - 1)] if pairs else [run]
    assert words(text) == expected


@pytest.mark.parametrize("count", [3, 10])
def test_stems_are_the_same_when_few_are_remembered(monkeypatch, count):
    stemmer = pytest.importorskip("Stemmer").Stemmer("english")
    monkeypatch.setattr("langchain_rerankkit.lexical._REMEMBERED", count)
    text = f"running runs rivers river bridges {'run' * 30}s running generously rivers " * 3
    assert analyser("english")(text) == stemmer.stemWords(text.split())
    assert analyser("english", frozenset({"river", "run"}))("rivers run the river") == ["river", "the"]


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="klingon"):
        analyser("klingon")


def test_statistics_of_nothing_score_everything_zero():
    statistics = TermStatistics.from_texts([])
    assert statistics.documents == 0
    assert bm25(["a"], [["a"], []], statistics)[1] == 0
