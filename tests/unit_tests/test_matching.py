import math
import re
import unicodedata
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_rerankkit.errors import DatasetError, ScoreError
from langchain_rerankkit.evaluation.datasets.dataset import Dataset, Question
from langchain_rerankkit.evaluation.evaluate import evaluate
from langchain_rerankkit.evaluation.gold import matching
from langchain_rerankkit.evaluation.gold.matching import holds_answer, normalise, number, parse_matcher, regex, words


def holds(text, *answers):
    return holds_answer(normalise(text), [normalise(answer) for answer in answers])


def grade(matcher, text, *answers):
    return matcher(Question("q1", "?", answers), Document(page_content=text, id="d1"))


# --- words ------------------------------------------------------------------------------------------------------------


def test_whole_words_only():
    assert holds("Holi is celebrated in India.", "India")
    assert not holds("The Indiana Dunes", "India")
    assert not holds("in 1969", "19")
    assert holds("In 1969, NASA …", "1969")


def test_case_accents_punctuation_and_order():
    assert holds("the Dia de los Muertos parade", "Día de los Muertos")
    assert holds("a U.S.-built engine", "u s built")
    assert not holds("Muertos los de Día", "Día de los Muertos")


def test_any_accepted_answer_counts_and_empty_ones_never():
    assert holds("The Ganga", "Ganges", "Ganga")
    assert not holds("anything", "", "…", " ")
    assert not holds("", "a")
    assert grade(words(), "anything", "", "…", " ") == 0
    assert grade(words(), "anything") == 0


def test_scripts_without_spaces_match_by_character():
    assert holds("東京都は日本の首都", "東京")
    assert not holds("京東", "東京")
    assert holds("서울은 수도이다", "서울")


@given(st.text(), st.text())
def test_normalising_is_idempotent_and_finds_what_stands_between_spaces(text, answer):
    assert normalise(normalise(text)) == normalise(text)
    if normalise(answer).strip():
        assert holds(f"{text} {answer} {text}", answer)


LETTERS = st.text("abcdinß éÉ-'.,;1920", max_size=25)


def slow_words(text):
    """Words, character by character."""
    found, word = [], ""
    for sign in unicodedata.normalize("NFKD", text) + " ":
        if unicodedata.combining(sign):
            continue
        if sign.isalnum():
            word += sign.casefold()
        elif word:
            found.append(word)
            word = ""
    return found


@given(LETTERS, st.lists(LETTERS, max_size=3))
def test_words_agrees_with_comparing_slices_of_word_lists(text, answers):
    said = slow_words(text)
    wanted = [slow_words(answer) for answer in answers]
    expected = any(
        answer == said[start : start + len(answer)] for answer in wanted if answer for start in range(len(said))
    )
    assert grade(words(), text, *answers) == expected


@given(st.text("Iindaé ", min_size=1, max_size=12), LETTERS, LETTERS)
def test_case_accents_and_punctuation_of_either_side_do_not_count(answer, before, after):
    text = f"{before} {answer} {after}"
    expected = grade(words(), text, answer)
    bare = "".join(c for c in unicodedata.normalize("NFD", answer) if not unicodedata.combining(c))
    for other in (answer.upper(), answer.swapcase(), bare, f"«{answer}»!", unicodedata.normalize("NFD", answer)):
        assert grade(words(), text, other) == expected
        assert grade(words(), f"{before} {other} {after}", answer) == expected


@given(LETTERS, st.text("abcdina1é", min_size=1, max_size=5), LETTERS)
def test_a_word_is_never_found_inside_a_longer_one(before, more, after):
    assert grade(words(), f"{before.replace('i', '')} India{more} {more}india {after.replace('i', '')}", "India") == 0


def test_texts_are_prepared_once_and_not_without_end(monkeypatch):
    asked = []
    monkeypatch.setattr(matching, "normalise", lambda text: asked.append(text) or normalise(text))
    monkeypatch.setattr(matching, "_MOST_REMEMBERED", 10)
    matcher = words()
    for _ in range(3):
        assert [grade(matcher, text, "b") for text in ("a b c d e f", "b g h i j k", "l m")] == [1, 1, 0]
    assert asked.count("a b c d e f") == 1
    assert asked.count("l m") == 3, "beyond what is remembered it is prepared again, and right"


class TestTheNotebooksGoldBySubstring:
    """Any sentence with "Indiana" was a hit for "India", and one question counted several times."""

    DOCUMENTS = (
        Document(id="dunes", page_content="The Indiana Dunes lie on Lake Michigan."),
        Document(id="holi", page_content="Holi is celebrated in India."),
        Document(id="diwali", page_content="Diwali is celebrated in India too."),
    )

    def test_it_cannot_happen(self):
        dataset = Dataset((Question("q", "Where is Holi celebrated?", ("India",)),), self.DOCUMENTS)
        run = {"q": [document.id for document in self.DOCUMENTS]}
        report = evaluate({"run": run}, dataset, ["hit@1", "hit@3", "precision@3"], gold="answers")
        assert all("India" in document.page_content for document in self.DOCUMENTS), "a substring of all three"
        assert report.baseline.scores == pytest.approx({"hit@1": 0.0, "hit@3": 1.0, "precision@3": 2 / 3})


# --- patterns ---------------------------------------------------------------------------------------------------------


def test_patterns_are_searched_for_in_any_case_and_line():
    assert grade(regex(), "It was in July 1969.", r"\b19(68|69)\b") == 1
    assert grade(regex(), "It was in July 19691.", r"\b19(68|69)\b") == 0
    assert grade(regex(), "the INDIAN ocean", "indian?") == 1
    assert grade(regex(0), "the INDIAN ocean", "indian?") == 0
    assert grade(regex(), "one\ntwo", "^two$") == 1
    assert grade(regex(), "abc", "x", "b") == 1
    assert grade(regex(), "abc") == 0


def test_composed_and_decomposed_letters_are_the_same_to_patterns():
    for form in ("NFC", "NFD"):
        assert grade(regex(), unicodedata.normalize(form, "un café noir"), unicodedata.normalize("NFD", "caf[é] ")) == 1


@pytest.mark.parametrize("pattern", ["(", "[a-", "a{2,1}", r"\q", "*"])
def test_a_bad_pattern_names_its_question(pattern):
    with pytest.raises(DatasetError, match="question 'q1' is not a pattern") as caught:
        grade(regex(), "text", "fine", pattern)
    assert caught.value.field == "answers"


@pytest.mark.parametrize("pattern", ["", "a*", "(b|)", "^"])
def test_a_pattern_that_matches_nothing_at_all_would_match_everything(pattern):
    with pytest.raises(DatasetError, match="in every document"):
        grade(regex(), "text", pattern)


@given(st.text("aIi nd.", max_size=20), st.text("aIi nd", min_size=1, max_size=3))
def test_a_pattern_of_plain_letters_is_a_substring_in_any_case(text, answer):
    assert grade(regex(), text, re.escape(answer)) == (answer.lower() in text.lower())


# --- numbers ----------------------------------------------------------------------------------------------------------

READ = {
    "in 1947.": [1947],
    "1,234.5": [1234.5],
    "12,34,567 rupees": [1234567],
    "1'234 and 1\u202f234\u202f567": [1234, 1234567],
    "\u22123 °C, (-4), -$5, $-6, \u20138": [-8, -6, -5, -4, -3],  # minus sign and en dash
    "1990-1995, 5%\u201310%, COVID-19": [5, 10, 19, 1990, 1995],
    "2024-05-01": [1, 5, 2024],
    "1.2e6 2E-3": [0.002, 1200000],
    "3 million, 1.1 million, 2.5bn, 5 crore, 3-million, 4\nbillion": [
        *(1100000, 3000000, 50000000, 2500000000, 4000000000),
    ],
    "45 %, 46%, $5, 7€, p = .05": [0.05, 5, 7, 45, 46],
    "16GB, 5kg, 21st, 37°C": [5, 16, 21, 37],
    "No.5 and Answer:6": [5, 6],
    "1/2": [1, 2],
    "٣٤": [34],
    # Nothing is read where it is not clear what.
    "B12 v3 x_4 3f2a": [],
    "5k 5m 2b 1990s 3½ 10²": [],
    "12:30, 1.2.3, 192.168.0.1, 1,94, 1,2345, 1,2,3": [],
    "one hundred, XIV": [],
    "9" * 26 + " 1e9999": [],
    "": [],
}


@pytest.mark.parametrize("text", READ)
def test_what_is_read_as_a_number(text):
    assert matching._NumberReader(".").all(text) == [Decimal(str(value)) for value in READ[text]]


@pytest.mark.parametrize(
    ("text", "values"),
    [("1.234,5", [1234.5]), ("1 234 567,25", [1234567.25]), ("1.947", [1947]), ("1,94", [1.94]), ("24.12.1990", [])],
)
def test_what_is_read_where_the_decimal_sign_is_a_comma(text, values):
    assert matching._NumberReader(",").all(text) == [Decimal(str(value)) for value in values]
    if values:
        assert grade(number(decimal=","), f"etwa {text} Meter", text) == 1


def test_a_year_is_not_inside_another_number():
    assert grade(number(), "Independence came in 1947.", "1947") == 1
    for text in ("19471", "11947", "1.947", "1947.5", "1,947,000", "B1947", "-1947"):
        assert grade(number(absolute=0.4), text, "1947") == 0, text


def test_tolerances():
    assert grade(number(), "about 101 km", "100") == 0
    assert grade(number(relative=0.01), "about 101 km", "100") == 1
    assert grade(number(relative=0.01), "about 101.1 km", "100") == 0
    assert grade(number(absolute=2), "98", "100") == 1
    assert grade(number(relative=0.01, absolute=2), "98", "100") == 1, "the larger of the two counts"
    assert grade(number(relative=0.01, absolute=2), "97", "100") == 0, "and not their sum"
    assert grade(number(relative=0.1), "-105", "-100") == 1
    assert grade(number(relative=0.1), "105", "-100") == 0
    assert grade(number(), "1,100,000 people", "1.1 million") == 1, "no error of binary fractions"
    assert number(relative=0.01).name == "number(relative=0.01)"


@pytest.mark.parametrize(
    "answer", ["Paris", "", "16 GB", "16GB", "1/2", "1990-1995", "about 5", "12:30", "five", "1,94"]
)
def test_an_answer_that_is_no_number_names_its_question(answer):
    with pytest.raises(DatasetError, match="question 'q1' is not a number") as caught:
        grade(number(), "text", answer)
    assert caught.value.field == "answers"


@pytest.mark.parametrize("answer", ["5", " 5 ", "+5", "$5", "5 %", "5€", "5.0", "0.5e1", "0.000005 million"])
def test_answers_of_many_forms(answer):
    assert grade(number(), "there are 5.", answer) == 1


@pytest.mark.parametrize(
    "arguments", [{"relative": -0.1}, {"absolute": math.nan}, {"relative": math.inf}, {"decimal": ";"}]
)
def test_bad_tolerances(arguments):
    with pytest.raises(ValueError, match="not"):
        number(**arguments)


@given(
    st.lists(st.integers(-(10**9), 10**9), max_size=5),
    st.integers(-(10**6), 10**6),
    st.floats(0, 1),
    st.sampled_from(["{}", "{:,}"]),
)
def test_number_agrees_with_comparing_each_number(values, answer, relative, form):
    text = " and ".join(f"({form.format(value)} m)" for value in values)
    limit = Decimal(str(relative)) * abs(answer)
    expected = any(abs(Decimal(value) - answer) <= limit for value in values)
    assert grade(number(relative=relative), text, str(answer)) == expected


@given(st.text("0123456789.,-eE% km\u00a0'$", max_size=60))
def test_any_text_can_be_read_for_numbers(text):
    for decimal in ".", ",":
        values = matching._NumberReader(decimal).all(text)
        assert values == sorted(values)
        assert all(value.is_finite() for value in values)


@pytest.mark.parametrize("text", ["1" * 100_000, "1," * 50_000, "1\u00a0111" * 20_000, "1a" * 50_000, "-$" * 50_000])
def test_hostile_texts_are_read_in_time_that_grows_with_their_length(text):
    matching._NumberReader(".").all(text)  # a quadratic pattern would take minutes


# --- functions --------------------------------------------------------------------------------------------------------


def test_matchers_by_name_and_by_function():
    assert [parse_matcher(name).name for name in ("words", "regex", "number")] == ["words", "regex", "number"]
    assert all(parse_matcher(name).whole_corpus for name in ("words", "regex", "number"))
    matcher = words()
    assert parse_matcher(matcher) is matcher

    def longer_than_question(question, document):
        return len(document.page_content) > len(question.text)

    own = parse_matcher(longer_than_question)
    assert (own.name, own.whole_corpus) == ("longer_than_question", False)
    assert (grade(own, "long"), grade(own, "")) == (1, 0)


@pytest.mark.parametrize("match", ["word", None, 3, ["words"]])
def test_what_is_no_matcher(match):
    with pytest.raises(ValueError, match="'words', 'regex', 'number'"):
        parse_matcher(match)


@pytest.mark.parametrize(
    ("result", "expected"),
    [(True, 1), (False, 0), (3, 3), (0, 0), (np.int64(2), 2), *zip(np.array([True, False]), (1, 0), strict=True)],
)
def test_a_function_returns_true_or_false_or_a_grade(result, expected):
    said = grade(parse_matcher(lambda question, document: result), "text")
    assert (said, type(said)) == (expected, int)


@pytest.mark.parametrize(
    ("result", "named"),
    [
        *[(None, "None"), (math.nan, "nan"), (0.7, "0.7"), (2.0, "2.0"), (-1, "-1"), (np.float64(1), "np.float64")],
        *[("a secret text", "a str"), (np.array([1, 2]), "a ndarray"), ([], "a list")],
    ],
)
def test_a_result_that_is_no_grade_says_what_to_return(result, named):
    with pytest.raises(ScoreError) as caught:
        grade(parse_matcher(lambda question, document: result), "text")
    message = str(caught.value)
    assert named in message
    assert "question 'q1' and document 'd1'" in message
    assert "Return True or False" in message
    assert "secret" not in message


def test_many_keeps_the_order_of_pairs():
    pairs = [(Question("q", "?", (answer,)), Document(page_content="a b")) for answer in ("a", "x", "b")]
    assert list(words().many(iter(pairs))) == [1, 0, 1]
