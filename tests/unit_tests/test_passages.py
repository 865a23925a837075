"""Where long texts are cut, and what the scores of their parts say of them."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from langchain_rerankkit.passages import Chunks, combined, cut

WORDS = st.lists(st.sampled_from(["the", "river", "flows", "x" * 30, "é", "city.", "Is it?", "\n\n", "  "])).map(
    " ".join
)
CHINESE = st.text("河流穿过城市有九座桥。！\n", max_size=200)  # noqa: RUF001
TEXTS = WORDS | CHINESE | st.text(max_size=200)
SHARES = st.floats(0, 0.5)


def parts_of(text, size, overlap=0.1, most=None):
    return cut(text, lambda start: start + size, overlap, most)


@given(TEXTS, st.integers(1, 80), SHARES)
def test_all_of_a_text_but_white_space_is_in_a_part_and_no_part_is_too_long(text, size, overlap):
    parts = parts_of(text, size, overlap)
    seen = {place for start, stop in parts for place in range(start, stop)}
    assert all(place in seen for place, sign in enumerate(text) if not sign.isspace())
    assert all(0 <= start < stop <= len(text) and stop - start <= size for start, stop in parts)
    assert all(text[start:stop] == text[start:stop].strip() for start, stop in parts)


@given(TEXTS, st.integers(1, 80), SHARES)
def test_each_part_goes_on_and_repeats_no_more_than_it_may(text, size, overlap):
    for (start, stop), (next_start, next_stop) in pairwise(parts_of(text, size, overlap)):
        assert next_start > start
        assert next_stop > stop
        assert stop - next_start <= (stop - start) * overlap


@given(TEXTS, st.lists(st.integers(0, 40), min_size=1), SHARES)
@example("x" * 60, [40, 9, 1], 0.5)
def test_parts_may_differ_in_what_they_hold_as_with_tokens(text, rooms, overlap):
    parts = cut(text, lambda start: start + rooms[start % len(rooms)], overlap)
    seen = {place for start, stop in parts for place in range(start, stop)}
    assert all(place in seen for place, sign in enumerate(text) if not sign.isspace())
    assert all(stop - start <= max(1, rooms[start % len(rooms)]) for start, stop in parts)
    assert [stop for _, stop in parts] == sorted({stop for _, stop in parts})


@given(st.lists(st.sampled_from(["the", "river", "flows", "city."]), min_size=1, max_size=80).map(" ".join))
def test_words_that_fit_are_never_divided(text):
    words = set(text.split())
    for start, stop in parts_of(text, 12):
        assert set(text[start:stop].split()) <= words


def test_a_part_ends_with_a_sentence_where_one_ends_in_its_second_half():
    text = "The pi of 3.14 is no end. The river is long, and it flows. Bread and cheese."
    assert [text[start:stop] for start, stop in parts_of(text, 40, 0)] == [
        "The pi of 3.14 is no end.",
        "The river is long, and it flows.",
        "Bread and cheese.",
    ]
    text = "Is it?! Yes, it is (or so they say.) 'They' are others."
    assert [text[start:stop] for start, stop in parts_of(text, 36, 0)] == [
        "Is it?! Yes, it is (or so they say.)",
        "'They' are others.",
    ]
    text = "河流穿过城市。博物馆九点开门。面包和奶酪。"
    assert [text[start:stop] for start, stop in parts_of(text, 10, 0)] == [
        "河流穿过城市。",
        "博物馆九点开门。",
        "面包和奶酪。",
    ]


def test_neighbours_share_whole_words_or_any_characters_where_there_are_no_words():
    text = "one two three four five six seven eight nine ten"
    parts = [text[start:stop] for start, stop in parts_of(text, 20, 0.4)]
    assert parts == ["one two three four", "four five six seven", "seven eight nine ten"]
    assert parts_of("河" * 100, 40, 0.25) == [(0, 40), (30, 70), (60, 100)]


def test_a_part_begins_with_a_sentence_where_one_begins_in_what_it_may_repeat():
    text = "The museum opens at nine. The river is long. It flows through the city and into the sea."
    parts = [text[start:stop] for start, stop in parts_of(text, 50, 0.5)]
    assert parts[:2] == [
        "The museum opens at nine. The river is long.",
        "The river is long. It flows through the city and",
    ]
    text = "博物馆九点开门。河流很长。它穿过城市流入大海。"
    assert [text[start:stop] for start, stop in parts_of(text, 15, 0.5)][1] == "河流很长。它穿过城市流入大海。"


@pytest.mark.parametrize("sign", "!.'」\n")
def test_a_row_of_signs_takes_no_more_time_than_words(sign):
    text = "a" + sign * 300_000 + "b"
    assert parts_of(text, 200_000)[-1][1] == len(text)


@given(WORDS, st.integers(1, 30), st.integers(1, 5))
def test_a_limit_of_parts_keeps_the_first_ones(text, size, most):
    parts = parts_of(text, size)
    assert parts_of(text, size, most=most) == parts[:most]


@pytest.mark.parametrize("text", ["word " * 400_000, "河" * 2_000_000, "a" + " " * 2_000_000 + "b", "x\n" * 1_000_000])
def test_a_text_of_millions_of_characters_is_cut_in_linear_time(text):
    calls = []
    parts = cut(text, lambda start: calls.append(start) or start + 2000, 0.5)
    assert len(calls) <= 4 * len(text) / 2000 + 2
    assert (parts[0][0], parts[-1][1]) == (0, len(text.rstrip()))


SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9)


@given(SCORES)
def test_the_three_ways_to_combine_scores(scores):
    best = scores.index(max(scores))
    assert combined(scores, "max") == (max(scores), best)
    assert combined(scores, "mean") == (pytest.approx(math.fsum(scores) / len(scores), abs=1e-6), best)
    assert combined(scores, "first") == (scores[0], best)


@given(SCORES, st.integers(0, 8))
def test_a_part_without_a_score_is_never_the_best_and_is_not_hidden(scores, place):
    assume(place < len(scores) > 1)
    known = [score for position, score in enumerate(scores) if position != place]
    scores[place] = math.nan
    for how in ("max", "mean", "first"):
        score, best = combined(scores, how)
        assert math.isnan(score)
        assert scores[best] == max(known)


def test_scores_without_end_are_no_error():
    for scores in ([math.inf, -math.inf], [1.7e308, 1.7e308], [math.inf, 1.0]):
        assert not math.isfinite(combined(scores, "mean")[0])


TEXT_PARTS = st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=5), min_size=1, max_size=6)


@given(
    TEXT_PARTS,
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(-9, 9)),
    st.sampled_from(["max", "mean", "first"]),
)
def test_each_text_is_judged_by_those_of_its_chunks_that_were(texts, judged, how):
    chunks = Chunks()
    for parts in texts:
        chunks.add(parts, [(n, n + 1) for n in range(len(parts))])
    names = chunks.different
    assert sorted(names) == sorted({part for parts in texts for part in parts})
    scores = {place: judged[name] for place, name in enumerate(names) if name in judged}
    for parts, result in zip(texts, chunks.results(scores, how), strict=True):
        known = [judged[part] for part in parts if part in judged]
        if not known:
            assert (result.score, result.details) == (None, {"chunks": len(parts)})
            continue
        assert (
            result.score == {"max": max(known), "mean": pytest.approx(sum(known) / len(known)), "first": known[0]}[how]
        )
        start, _ = result.details["best_span"]
        assert judged[parts[start]] == max(known)
        assert names[result.best] == parts[start]
        assert result.details.get("truncated", False) == (len(known) < len(parts))
