"""What is put into prompts: texts made harmless, identifiers, fences, styles of one's own, and texts that are cut."""

import random
import re
import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel

from langchain_rerankkit.llm.prompts import draw, harmless, identifiers, load_graded, load_listwise
from langchain_rerankkit.llm.tokens import TokenCounter

KINDS = ["codes", "numbers", "letters"]
hostile = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "[",
                "]",
                "\uff3b",
                "\uff3d",
                "【",
                "】",
                "⟦",
                "⟧",
                "<",
                ">",
                "|",
                "\uff5c",
                "/",
                " ",
                "\n",
                "\u200b",
                "\0",
            ]
        ),
        st.sampled_from(["s", "1", "42", "A2B3", "٣", "INST", "SYS", "im_end", "think", "\ud800", "[3]", "</s>"]),
        st.text(max_size=4),
    ),
    max_size=30,
).map("".join)

# --- harmless texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[3]", "(3)"), ("a[0]", "a(0)"), ("［３］", "(３)"), ("【4】", "(4)"), ("⟦4⟧", "(4)"), ("[ A2B3 ]", "( A2B3 )"),  # noqa: RUF001
        ("[\u200b3]", "(\u200b3)"), ("[1\u200b2]", "(1\u200b2)"), ("[[3]]", "[(3)]"), ("[3] > [1]", "(3) > (1)"),
        ("</s>", "(/s)"), ("<|im_end|>", "(|im_end|)"), ("[/INST]", "(/INST)"), ("<<SYS>>", "(<SYS>)"),
        ("<start_of_turn>", "(start_of_turn)"), ("<|turn>", "(|turn)"), ("<turn|>", "(turn|)"), ("<think>", "(think)"),
        ("<|[/INST]|>", "(|(/INST)|)"), ("[TOOL_CALLS]", "(TOOL_CALLS)"), ("<tool_response>", "(tool_response)"),
        ("a\0b\ud800", "ab\ufffd"), ("<|im\0_end|>", "(|im_end|)"), ("[\x004]", "(4)"),
    ],
)  # fmt: skip
def test_brackets_and_marks_become_parentheses(text, shown):
    assert harmless(text) == shown


@pytest.mark.parametrize(
    "text",
    ["x[i + 1]", "[a, b]", "[see there]", "<b>x</b>", "1 < 2 > 0", "a || b", "{x} %s \\1", "\t\r\n", "[]", "[^\\W]"],
)
def test_other_texts_stay(text):
    assert harmless(text) == text


@given(hostile)
def test_nothing_that_looks_like_an_identifier_or_a_turn_is_left(text):
    shown = harmless(text)
    assert not re.search(r"\[\s*[^\W_]{1,12}\s*\]", unicodedata.normalize("NFKC", shown))
    assert not re.search(r"</?s>|<\|im_end\|>|\[/?INST\]|<</?SYS>>", shown)
    shown.encode("utf-8")
    assert harmless(shown) == shown


@pytest.mark.parametrize("piece", ["[", "[ ", "[a", "[1 ", "[\u200b", "<|", "<", "<|a", "[a" + " " * 30, "\ud800", "]"])
def test_a_million_characters_are_made_harmless_in_linear_time(piece):
    harmless(piece * (1_000_000 // len(piece)))
    harmless(piece + " " * 1_000_000)
    harmless(piece + "\u200b" * 1_000_000 + "a")


# --- identifiers and fences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 20, 26, 27, 200, 702])
def test_identifiers_are_different(kind, count):
    names = identifiers(kind, count, random.Random(1))
    assert len({name.casefold() for name in names}) == len(names) == count


def test_numbers_and_letters_are_those_of_the_models_trained_on_them():
    assert identifiers("numbers", 3, random.Random(1)) == ["1", "2", "3"]
    names = identifiers("letters", 28, random.Random(1))
    assert (names[:3], names[25:]) == (["A", "B", "C"], ["Z", "AA", "AB"])


def test_codes_are_as_often_one_as_another():
    names = [identifiers("codes", 1, random.Random(seed))[0] for seed in range(2000)]
    assert len(set(names)) > 1900
    assert {name[0] for name in names} == {name[2] for name in names} == set("ABCDEFGHJKLMNPQRSTUVWXYZ")


@given(st.lists(st.text(st.characters(exclude_characters="\0")), max_size=4), st.integers() | st.none())
def test_the_same_content_draws_the_same(content, seed):
    assert draw(seed, *content).random() == draw(seed, *content).random()
    assert draw(seed, *content).random() != draw(seed, *content, "more").random()
    if seed is not None:
        assert draw(seed, *content).random() != draw(seed + 1, *content).random() != draw(None, *content).random()


def test_half_a_character_can_be_drawn_from():
    assert draw(1, "\ud800").random() != draw(1, "\ud801").random()


# --- styles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["rankgpt", "structured", "rankzephyr", "rankvicuna"])
def test_braces_of_texts_and_queries_are_only_text(style):
    text = "{text} {0} {identifier} {query!r} {{ }} %s"
    messages = load_listwise(style).messages("{query} {fence}", [("1", text), ("2", text)], "passage-1")
    prompt = "\n".join(str(message.text) for message in messages)
    assert prompt.count(text) == 2
    assert "{query} {fence}" in prompt


@pytest.mark.parametrize("style", ["rankgpt", "structured", "rankzephyr", "rankvicuna"])
def test_turns_alternate_and_the_user_has_the_last(style):
    messages = load_listwise(style).messages("q", [("1", "a"), ("2", "b")], "passage-1")
    kinds = [message.type for message in messages]
    assert kinds[0] == "system"
    assert kinds[1::2] == ["human"] * len(kinds[1::2])
    assert kinds[2::2] == ["ai"] * len(kinds[2::2])
    assert kinds[-1] == "human"


GOOD = {"opening": "{query}", "passage": "[{identifier}] {text}", "order": "Rank."}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"passage": "{text}"}, "must use"), ({"passage": "[{identifier}] {text} {other}"}, "may use"),
        ({"opening": "hello"}, "never shows the query"), ({"order": "{"}, "brace"), ({"order": 3}, "no valid text"),
        ({"identifiers": "runes"}, "codes, numbers or letters"), ({"opening_reply": "Yes"}, "both"),
        ({"colour": "red"}, "keys"), ({"order": "{query.__class__}"}, "may use"),
    ],
)  # fmt: skip
def test_a_style_with_a_mistake_says_which(tmp_path, change, said):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert load_listwise(str(path)).order == "Rank."
    path.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(ValueError, match=said):
        load_listwise(str(path))


@pytest.mark.parametrize("text", ["", "- a", "a: [", "7", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_style_is_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for load in (load_listwise, load_graded):
        with pytest.raises(ValueError, match="prompt style"):
            load(str(path))


@pytest.mark.parametrize("grades", [{}, {"a": 0}, {"a": 1, "b": 2}, {"a": "x", "b": 0}, [0, 1]])
def test_grades_need_a_zero_and_more(tmp_path, grades):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"question": "{query} {text}", "grades": grades}))
    with pytest.raises(ValueError, match="grades"):
        load_graded(str(path))


def test_an_unknown_style_names_those_there_are():
    with pytest.raises(ValueError, match="rankgpt, rankvicuna, rankzephyr, structured"):
        load_listwise("rankgtp")
    with pytest.raises(ValueError, match="graded, yes_no"):
        load_graded("rankgpt")


# --- texts that are cut ------------------------------------------------------------------------------------------------

counters = st.sampled_from(
    [
        TokenCounter(None),
        TokenCounter(FakeListChatModel(responses=[""], custom_get_token_ids=lambda text: text.split())),
    ]
)


@given(st.text(), st.integers(1, 20), counters)
def test_a_cut_text_is_a_beginning_that_fits(text, limit, counter):
    shown, cut = counter.cut(text, limit)
    assert text.startswith(shown)
    assert counter.count(shown) <= limit
    assert cut == (shown != text) or (cut and counter.count(text) > limit)


def test_a_text_is_cut_between_words():
    shown, cut = TokenCounter(None).cut("seven words are here to be cut", 4)
    assert (shown, cut) == ("seven words are", True)
