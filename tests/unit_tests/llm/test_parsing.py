"""What models say, as an order: always a permutation, or an `OrderError`, and never a guess."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from langchain_rerankkit.errors import OrderError
from langchain_rerankkit.llm.parsing import parse_best, parse_order, said, without_thoughts
from langchain_rerankkit.llm.prompts import identifiers

THREE = ["1", "2", "3"]
FIVE = ["1", "2", "3", "4", "5"]
LETTERS = ["A", "B", "C", "D", "E"]
CODES = ["A2B3", "C4D5", "E6F7"]


def named(answer, names):
    """The order as identifiers."""
    return [names[place] for place in parse_order(answer, names).order]


# --- forms in which models answer --------------------------------------------------------------------------------------

SCRIPTS = ["٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "০১২৩৪৫৬৭৮৯", "๐๑๒๓๔๕๖๗๘๙", "０１２３４５６７８９"]  # noqa: RUF001


def in_script(names, digits):
    return [name.translate(str.maketrans("0123456789", digits)) for name in names]


def lines(template, names):
    return "\n".join(template.format(place=place, name=name) for place, name in enumerate(names, start=1))


def joined(sign):
    return sign.join


BRACKETED = {
    "brackets": lambda n: " > ".join(f"[{x}]" for x in n),
    "brackets without spaces": lambda n: ">".join(f"[{x}]" for x in n),
    "brackets with commas": lambda n: ", ".join(f"[{x}]" for x in n),
    "brackets and a last and": lambda n: ", ".join(f"[{x}]" for x in n[:-1]) + f" and [{n[-1]}]",
    "all in one pair of brackets": lambda n: f"[{', '.join(n)}]",
    "bold brackets": lambda n: " > ".join(f"**[{x}]**" for x in n),
    "escaped brackets": lambda n: " > ".join(f"\\[{x}\\]" for x in n),
    "brackets of HTML": lambda n: " &gt; ".join(f"[{x}]" for x in n),
    "brackets of LaTeX": lambda n: "$" + " \\succ ".join(f"[{x}]" for x in n) + "$",
    "boxed": lambda n: "\\boxed{" + " > ".join(f"[{x}]" for x in n) + "}",
    "in tags": lambda n: "<answer>" + " > ".join(f"[{x}]" for x in n) + "</answer>",
    "wide brackets": lambda n: " > ".join(f"［{x}］" for x in n),  # noqa: RUF001
    "Chinese brackets": lambda n: " > ".join(f"【{x}】" for x in n),
    "arrows": lambda n: " → ".join(f"[{x}]" for x in n),
    "marks of direction": lambda n: " > ".join(f"[\u200f{x}\u200e]" for x in n),
    "Passage [x]": lambda n: " > ".join(f"Passage [{x}]" for x in n),
    "words before": lambda n: "The ranking is: " + " > ".join(f"[{x}]" for x in n) + ".",
    "a reason after": lambda n: " > ".join(f"[{x}]" for x in n) + f"\n\n[{n[0]}] says it all, [{n[-1]}] nothing.",
    "a year before": lambda n: "2024: " + " > ".join(f"[{x}]" for x in n),
    "numbered lines in brackets": lambda n: lines("{place}. [{name}]", n),
    "numbered lines with reasons": lambda n: lines("{place}. [{name}] because of [" + n[0] + "]", n),
    "bullets in brackets": lambda n: lines("- **[{name}]**: not like [" + n[0] + "]", n),
    "ranks in brackets": lambda n: lines("Rank {place}: [{name}]", n),
    "a table": lambda n: "| Rank | Identifier |\n|---|---|\n" + lines("| {place} | [{name}] |", n),
    "grades in parentheses": lambda n: " > ".join(f"[{x}] (0.{9 - i})" for i, x in enumerate(n)),
    "tiers": lambda n: f"Relevant: [{n[0]}], [{n[1]}]\nNot relevant: " + ", ".join(f"[{x}]" for x in n[2:]),
    "a draft before": lambda n: (
        "Draft: " + " > ".join(f"[{x}]" for x in sorted(n)) + "\nFinal: " + " > ".join(f"[{x}]" for x in n)
    ),
    "the turn of the user after": lambda n: (
        " > ".join(f"[{x}]" for x in n) + "<|im_end|>\n<|im_start|>user\n" + " > ".join(f"[{x}]" for x in n[::-1])
    ),
}
BARE = {
    "bare": joined(" > "),
    "bare without spaces": joined(">"),
    "bare with a point": lambda n: " > ".join(n) + ".",
    "bold": lambda n: " > ".join(f"**{x}**" for x in n),
    "quoted": lambda n: ", ".join(f"'{x}'" for x in n),
    "in parentheses": lambda n: " > ".join(f"({x})" for x in n),
    "Passage x": lambda n: " > ".join(f"Passage {x}" for x in n),
    "Documents": lambda n: ", ".join(f"Document {x}" for x in n),
    "doc_x": lambda n: " > ".join(f"doc_{x}" for x in n),
    "a list of commas": joined(", "),
    "commas after a word": lambda n: "Ranking: " + ", ".join(n),
    "only spaces": joined(" "),
    "one in each line": joined("\n"),
    "numbered lines": lambda n: lines("{place}. {name}", n),
    "numbered lines of passages": lambda n: (
        "Here it is:\n\n" + lines("{place}. Passage {name}", n) + "\n\nAny questions?"
    ),
    "ranks": lambda n: lines("Rank {place}: Passage {name}", n),
    "places with arrows": lambda n: lines("{place} -> Passage {name}", n),
    "reasons after colons": lambda n: lines("{place}. **Passage {name}**: about 2 things, 1 and 3", n),
    "a table of passages": lambda n: "| Rank | Passage |\n|---|---|\n" + lines("| {place} | {name} |", n),
    "grades after": lambda n: " > ".join(f"{x} (0.{9 - i})" for i, x in enumerate(n)),
    "a fence": lambda n: "```\n" + " > ".join(n) + "\n```",
}
JSON = {
    "a JSON list": json.dumps,
    "a JSON object": lambda n: json.dumps({"ranking": n}),
    "JSON with a reason": lambda n: json.dumps({"reasoning": f"[{n[-1]}] > [{n[0]}]", "ranking": n}),
    "JSON of objects": lambda n: json.dumps([{"rank": i, "id": x} for i, x in enumerate(n, start=1)]),
    "JSON of results": lambda n: json.dumps({"results": [{"index": x, "score": 0.5} for x in n]}),
    "JSON of a text": lambda n: json.dumps({"ranking": " > ".join(f"[{x}]" for x in n)}),
    "JSON in a fence": lambda n: "Here you go:\n```json\n" + json.dumps({"ranking": n}, indent=1) + "\n```\nBye 1!",
    "JSON among words": lambda n: "So: " + json.dumps({"ranking": n}) + f" since [{n[-1]}] > [{n[0]}] is not so.",
    "JSON that was cut": lambda n: json.dumps({"ranking": n})[:-2],
    "a Python dict": lambda n: str({"ranking": n}),
    "a call in words": lambda n: (
        "<tool_call>" + json.dumps({"name": "ranking", "arguments": {"ranking": n}}) + "</tool_call>"
    ),
}
FORMS = BRACKETED | BARE | JSON
THOUGHTS = {
    "DeepSeek and Qwen": "<think>\n{draft}\n</think>\n\n{answer}",
    "the template thinks": "{draft}\n</think>\n\n{answer}",
    "thinking switched off": "<think>\n\n</think>\n\n{answer}",
    "Magistral": "[THINK]{draft}[/THINK]{answer}",
    "gpt-oss": "<|channel|>analysis<|message|>{draft}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>",
    "gpt-oss without marks": "analysisWe need to rank. {draft} So.assistantfinal{answer}",
    "Gemma": "<|channel>thought\n{draft}<channel|>{answer}",
    "Kimi": "◁think▷{draft}◁/think▷{answer}",
    "Seed": "<seed:think>{draft}</seed:think>{answer}",
    "Command": "<|START_THINKING|>{draft}<|END_THINKING|>{answer}",
    "OpenThinker": "<|begin_of_thought|>{draft}<|end_of_thought|>{answer}",
    "a prompt that asks for it": "<thinking>{draft}</thinking>\n{answer}",
    "thoughts after it": "{answer}\n<think>{draft}",
}

shuffled = st.integers(3, 9).flatmap(
    lambda count: st.tuples(
        st.sampled_from(["numbers", "letters", "codes"]), st.permutations(range(count)), st.integers(0, 999)
    )
)


def prompt(case):
    """Identifiers as shown, and as an answer orders them."""
    kind, order, seed = case
    names = identifiers(kind, len(order), random.Random(seed))
    return names, [names[place] for place in order], list(order)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=30)
@given(case=shuffled)
def test_every_form_gives_back_its_permutation_without_a_repair(form, case):
    names, ordered, order = prompt(case)
    parsed = parse_order(form(ordered), names)
    assert (parsed.order, parsed.repairs) == (order, 0), form(ordered)


@pytest.mark.parametrize("frame", THOUGHTS.values(), ids=THOUGHTS)
@settings(max_examples=30)
@given(case=shuffled, form=st.sampled_from([*BRACKETED.values(), *JSON.values()]))
def test_thoughts_do_not_count(frame, case, form):
    names, ordered, order = prompt(case)
    draft = " > ".join(f"[{name}]" for name in ordered[::-1])
    answer = form(ordered)
    parsed = parse_order(frame.format(draft=draft, answer=answer), names)
    assert (parsed.order, parsed.repairs) == (order, 0)


@pytest.mark.parametrize("digits", SCRIPTS)
@pytest.mark.parametrize("form", ["brackets", "bare", "a JSON list", "numbered lines", "one in each line", "Passage x"])
def test_digits_of_every_script_are_digits(form, digits):
    names = [str(number) for number in range(1, 13)]
    order = random.Random(4).sample(range(12), 12)
    answer = FORMS[form](in_script([names[place] for place in order], digits))
    assert (parse_order(answer, names).order, parse_order(answer, names).repairs) == (order, 0)


def test_json_numbers_are_identifiers_too():
    for value in ([3, 1, 2], {"order": [3.0, 1.0, 2.0]}, [{"passage": 3}, {"passage": 1}, {"passage": 2}]):
        assert named(json.dumps(value), THREE) == ["3", "1", "2"]


def test_case_zeros_and_circles_make_no_difference():
    assert named("[c] > [a] > [b]", LETTERS[:3]) == ["C", "A", "B"]
    assert named("c > a > b", LETTERS[:3]) == ["C", "A", "B"]
    assert named("e6f7 > a2b3 > c4d5", CODES) == ["E6F7", "A2B3", "C4D5"]
    assert named("[03] > [01] > [02]", THREE) == named("③ > ① > ②", THREE) == ["3", "1", "2"]


# --- repairs -----------------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw):
    names, ordered, _ = prompt(draw(shuffled))
    kept = ordered[: draw(st.integers(2, len(ordered)))]
    again = draw(st.lists(st.sampled_from(kept), max_size=4))
    strange = {True: ["97", "98", "0"], False: ["ZX", "ZY", "ZZ"] if names[0].isalpha() else ["Y9Y9", "Z9Z9", "Z8Z8"]}
    unknown = draw(st.lists(st.sampled_from(strange[names[0].isdigit()]), max_size=3))
    said_names = list(kept)
    for name in unknown:
        said_names.insert(draw(st.integers(0, len(said_names))), name)
    return names, kept, [*said_names, *again], (len(again), len(names) - len(kept), len(unknown))


@pytest.mark.parametrize("form", ["brackets", "brackets with commas", "bare", "a list of commas", "a JSON object"])
@given(case=damaged())
def test_repairs_are_counted_to_the_one(form, case):
    names, kept, answered, counts = case
    parsed = parse_order(FORMS[form](answered), names)
    assert [names[place] for place in parsed.order[: len(kept)]] == kept
    assert parsed.order[len(kept) :] == [place for place, name in enumerate(names) if name not in kept]
    assert (parsed.repeated, parsed.missing, parsed.unknown) == counts
    assert parsed.repairs == sum(counts)


def test_no_index_counts_from_the_end():
    for answer in ("[-1] > [3] > [0]", "[-1, 3, 0]", '{"ranking": ["-1", "3", "0"]}'):
        parsed = parse_order(answer, THREE)
        assert (parsed.order, parsed.missing, parsed.unknown) == ([2, 0, 1], 2, 2)
    assert parse_order("-1 > 3 > 2", THREE).order == [2, 1, 0]


# --- what is read as meant ---------------------------------------------------------------------------------------------

MEANT = [
    ("[3]\n\nThis is because [3] answers; [1] and [2] do not.", THREE, "312"),
    ("The most relevant is [2]. Then comes [3], finally [1].", THREE, "231"),
    ("1. [3] answers it\n2. [1] is similar to [3]\n3. [2] is not", THREE, "312"),
    ("1. **[3]** exact\n   - also see [2]\n2. **[1]** near\n   - 2 reasons\n3. [2]", THREE, "312"),
    ("[1]: irrelevant\n[2]: relevant\n[3]: partly\n\nFinal ranking: [2] > [3] > [1]", THREE, "231"),
    ("Passage 1: low. Passage 2: high. Passage 3: fair.\n\n2 > 3 > 1", THREE, "231"),
    ("2 > 3 > 1\n\nPassage 1 is bad for reasons 1, 2, 3.", THREE, "231"),
    ("[1] claims '[1] > [2] > [3]'. So [3] > [2] > [1]", THREE, "321"),
    ("[1] > [2] > [3] > [4] > [5]\nWait. Final answer: [4] > [1]", FIVE, "41235"),
    ("Highly relevant: [3], [1]\nSomewhat: [2]\nNot relevant: [4], [5]", FIVE, "31245"),
    ("Highly relevant: 3, 1\nSomewhat: 2\nNot relevant: 5, 4", FIVE, "31254"),
    ("Best: [3] > [1]\nRest: [5] > [4]", FIVE, "31542"),
    ("I considered [2], [1]. Ranking:\n[3], [1]", FIVE, "31245"),
    ("[3] (like [2]) > [1] (unlike [3]) > [2]", THREE, "312"),
    ("3 (5) > 1 (4) > 2 (2)", THREE, "312"),
    ("3. Title of the third\n1. Title of the first\n2. Title of the second", THREE, "312"),
    ("| Rank | Id | Why |\n|---|---|---|\n| 1 | [3] | as [1] |\n| 2 | [1] | 3 times |\n| 3 | [2] | no |", THREE, "312"),
    ("A careful reading suggests C > A > B > E > D", LETTERS, "CABED"),
    ("[3] 0.9\n[1] 0.5\n[2] 0.1", THREE, "312"),
    ("[5] > [4] > … > [1]", FIVE, "54123"),
    ("[3] > [1] > [2]</s>", THREE, "312"),
]


@pytest.mark.parametrize(("answer", "names", "order"), MEANT)
def test_answers_are_read_as_meant(answer, names, order):
    assert "".join(named(answer, names)) == order


def test_codes_are_told_from_prose_without_brackets():
    assert named("E6F7 (direct answer), then A2B3 as the 2nd, last C4D5", CODES) == ["E6F7", "A2B3", "C4D5"]


def test_an_answer_of_one_is_an_order_with_the_others_missing():
    for answer in ("[2]", "2", "Passage 2.", "The best is [2].", "Answer: 2"):
        parsed = parse_order(answer, THREE)
        assert (parsed.order, parsed.missing) == ([1, 0, 2], 2)


# --- what is no order --------------------------------------------------------------------------------------------------

NUMBERS_IN_IT = [
    "Sorry, I can only rank 3 passages of the 2 you gave, and 1 was empty.",
    "I apologize, as of 2024 I have 2 or 3 concerns.",
    "On 2024-03-01 it rained.", "At 3:1:2 the run of version 1.2.3 ended.", "3/1/2", "See sections 1-3.",
    "There are 2, 3 of them in it.", "On March 3, 2024 I saw 1, 2 things", "Error 3: 1 > 2 failed with 5",
    "1. Some title\n2. Other title\n3. Third title", "1. The 3 main points\n2. Something\n3. Else",
    "I found 5 > 3 things", "[1-3]", "99", "[99] > [98]",
]  # fmt: skip
TWO_MEANINGS = [
    "1: 3\n2: 1\n3: 2", "[1]: 3\n[2]: 1\n[3]: 2", "[1] 0.2\n[2] 0.9\n[3] 0.5", "1 -> 3\n2 -> 1\n3 -> 2",
    "| Passage | Score |\n|---|---|\n| 1 | 3 |\n| 2 | 1 |\n| 3 | 2 |", "[3] < [1] < [2]", "3 < 1 < 2",
    '{"1": 0.2, "2": 0.1, "3": 0.9}', '{"3": 1, "1": 2, "2": 3}', '{"ranking": {"3": 0.1, "1": 0.2}}', "[1.5, 2.5]",
]  # fmt: skip
NOTHING = [
    "", " \n\t", "None", "null", "none is relevant", "{}", "[]", "[true, false]", '{"ranking": null}', '{"ranking": []}',
    "I'm sorry, but I can't help with that.", "As an AI model, I have no opinion.", "<html>", "\0", "[" * 99, "{" * 99,
    '{"ranking": "yes"}', '{"ranking": [[[[[[[["1", "2"]]]]]]]]}', "[三] > [一]", "P3 > P1",
]  # fmt: skip
WITHOUT_END = [
    "<think>[1] > [2] > [3]",
    "[THINK][1] > [2]",
    "<|channel|>analysis<|message|>[1] > [2]",
    "analysisWe [1]",
]


@pytest.mark.parametrize("answer", [*NUMBERS_IN_IT, *TWO_MEANINGS, *NOTHING, *WITHOUT_END])
def test_what_is_no_order_for_sure_is_an_error(answer):
    with pytest.raises(OrderError) as caught:
        parse_order(answer, THREE)
    assert caught.value.answer == answer
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "answer", ["A passage about I and E.", "Dear A, B", "I think C is best.", "A: a\nI: b", "DEAD"]
)
def test_letters_of_prose_are_no_order(answer):
    with pytest.raises(OrderError):
        parse_order(answer, LETTERS)


def test_the_error_says_what_to_do():
    for answer, said_so in (("", "is empty"), ("<think>hm", "more output tokens"), ("no", "names none")):
        with pytest.raises(OrderError, match=said_so):
            parse_order(answer, THREE)


# --- the best only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "names", "best"),
    [
        ("[2]", THREE, "2"), ("2", THREE, "2"), ("Passage 2", THREE, "2"), ("**[2]**", THREE, "2"), ("٢", THREE, "2"),
        ("The most relevant passage is 2.", THREE, "2"), ("The best passage is [2], not [1].", THREE, "2"),
        ("B", LETTERS, "B"), ("Answer: b", LETTERS, "B"), ("<think>[1]</think>[2]", THREE, "2"), ("c4d5", CODES, "C4D5"),
        ('{"best": "x", "ranking": ["2"]}', THREE, "2"), ('"2"', THREE, "2"), ("[2] > [1]", THREE, "2"),
    ],
)  # fmt: skip
def test_the_best_comes_first_and_the_others_stay(answer, names, best):
    parsed = parse_best(answer, names)
    assert [names[place] for place in parsed.order] == [best, *(name for name in names if name != best)]
    assert parsed.repairs == 0


@pytest.mark.parametrize("answer", ["", "none", "9", "[9]", "There are 2 of them.", "<think>[2]"])
def test_no_best_is_an_error(answer):
    with pytest.raises(OrderError):
        parse_best(answer, THREE)


# --- messages ----------------------------------------------------------------------------------------------------------


def call(args):
    return {"name": "ranking", "args": args, "id": "c"}


ARGS = [
    {}, {"ranking": None}, {"ranking": 7}, {"ranking": True}, {"ranking": {"a": 1}}, {"ranking": [None, [], {}]},
    {"ranking": [True, 1.5, "x"]}, {"order": "yes"}, {"ranking": [float("nan")]}, {"ranking": [10**400]},
]  # fmt: skip


@pytest.mark.parametrize("args", ARGS, ids=str)
def test_arguments_of_wrong_types_are_an_error(args):
    with pytest.raises(OrderError):
        parse_order(said(AIMessage("", tool_calls=[call(args)])), THREE)


@pytest.mark.parametrize("args", ['{"ranking": ["3", "1", "2"', '{"ranking": ["3", "1", "2"]} }', "[3] > [1] > [2]"])
def test_arguments_that_are_no_json_are_read_as_text(args):
    message = AIMessage("", invalid_tool_calls=[{"name": "ranking", "args": args, "id": "c", "error": "x"}])
    assert named(said(message), THREE) == ["3", "1", "2"]


@pytest.mark.parametrize("args", [None, "", "{", "sorry"])
def test_a_call_without_usable_arguments_is_an_error(args):
    message = AIMessage("", invalid_tool_calls=[{"name": "ranking", "args": args, "id": "c", "error": "x"}])
    with pytest.raises(OrderError):
        parse_order(said(message), THREE)


def test_what_was_called_counts_before_what_was_written():
    message = AIMessage("[1] > [2] > [3]", tool_calls=[call({"ranking": ["3", 1, "[2]"]})])
    assert named(said(message), THREE) == ["3", "1", "2"]


def test_whatever_a_runnable_returns_is_a_text():
    blocks = AIMessage([{"type": "thinking", "thinking": "[1]"}, {"type": "text", "text": "[3] > [1]"}])
    assert said(blocks) == "[3] > [1]"
    assert (said(None), said("x"), said(AIMessage("")), said(7)) == ("", "x", "", "7")
    assert type(said(AIMessage("x"))) is str


# --- arbitrary text ----------------------------------------------------------------------------------------------------

pieces = st.one_of(
    st.sampled_from(
        ["[", "]", "{", "}", "(", ")", ">", "<", ",", "\n", " ", "|", "-", ":", ". ", '"', "```json\n", "```"]
    ),
    st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>final<|message|>", "assistantfinal"]),
    st.sampled_from(
        ["<|im_end|>", "&gt;", "\\[", "Passage ", "Rank ", "and ", "Final: ", "| 1 |", "\n1. ", '{"ranking": [']
    ),
    st.sampled_from([*FIVE, *LETTERS, *CODES, "-1", "0", "99", "2.5", "2024-01-02", "٣", "३", "③", "³", "Ⅳ", "½"]),
    st.sampled_from([f"[{name}]" for name in (*FIVE, *LETTERS, *CODES, "99", "٢", "-1")]),
    st.text(max_size=8),
)
answers = st.lists(pieces, max_size=25).map("".join)
shown = st.sampled_from([THREE, FIVE, LETTERS, CODES, ["1", "2"], [str(n) for n in range(1, 31)]])


def check_any_answer(answer, names):
    for parse in (parse_order, parse_best):
        try:
            parsed = parse(answer, names)
        except OrderError:
            continue
        assert sorted(parsed.order) == list(range(len(names)))
        assert min(parsed.repeated, parsed.unknown) >= 0
        assert 0 <= parsed.missing < len(names)
    assert len(without_thoughts(answer)) <= len(answer)


@settings(max_examples=400)
@given(answer=answers, names=shown)
def test_any_text_is_a_permutation_or_an_error(answer, names):
    check_any_answer(answer, names)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(answer=answers, names=shown)
def test_ten_thousand_texts_are_permutations_or_errors(answer, names):
    check_any_answer(answer, names)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*FIVE, *CODES]) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["ranking", "id", "index", "x", "1", "results"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(args=st.dictionaries(st.sampled_from(["ranking", "order", "x", "3"]), json_values), names=shown)
def test_any_arguments_are_a_permutation_or_an_error(args, names):
    check_any_answer(said(AIMessage("", tool_calls=[call(args)])), names)


TEN_MEGABYTES = 10_000_000
LONG = {
    "a repetition": "[1] > [2] > ", "open brackets": "[", "braces": "[{", "JSON": '{"a":', "points": "3 ", "signs": ">",
    "parentheses": "3 (", "spaces": " ", "labels": "passage ", "thoughts": "<think>", "channels": "<|channel|>",
    "bars": "| ", "numbered": "1. 3\n2. 1\n", "words": "lorem ipsum ", "digits": "1", "references": "&", "stars": "*",
    "nothing": "\u200b", "a ligature": "\ufdfa", "ands": "1 and ", "fences": "```json ", "quotes": "'\"", "links": "[1](",
    "tiers": "a: [1]\nb: [2]\n", "bare tiers": "a: 1\nb: 2\n", "finals": "final ", "minus": "-1", "zeros": "0 > ",
}  # fmt: skip


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
def test_ten_megabytes_are_read_in_linear_time(piece):
    check_any_answer(piece * (TEN_MEGABYTES // len(piece)), FIVE)


def test_an_order_before_or_after_ten_megabytes_of_thoughts_is_found():
    thoughts = "[1] > [2] > hmm " * (TEN_MEGABYTES // 16)
    assert named(f"<think>{thoughts}</think>[3] > [1] > [2]", THREE) == ["3", "1", "2"]
    assert named(f"[3] > [1] > [2]\n<think>{thoughts}", THREE) == ["3", "1", "2"]


def test_an_order_of_a_thousand_passages_is_read():
    names = [str(number) for number in range(1, 1001)]
    order = random.Random(1).sample(range(1000), 1000)
    assert parse_order(" > ".join(f"[{names[place]}]" for place in order), names).order == order
