from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.evaluation.matching import holds_answer, normalise


def holds(text, *answers):
    return holds_answer(normalise(text), [normalise(answer) for answer in answers])


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


def test_scripts_without_spaces_match_by_character():
    assert holds("東京都は日本の首都", "東京")
    assert not holds("京東", "東京")
    assert holds("서울은 수도이다", "서울")


@given(st.text(), st.text())
def test_normalising_is_idempotent_and_finds_what_stands_between_spaces(text, answer):
    assert normalise(normalise(text)) == normalise(text)
    if normalise(answer).strip():
        assert holds(f"{text} {answer} {text}", answer)
