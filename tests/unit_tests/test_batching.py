import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.inference.batching import token_batches


@given(st.lists(st.integers(0, 600), max_size=200), st.integers(1, 4000))
def test_every_position_once_within_the_budget(lengths, budget):
    batches = list(token_batches(lengths, budget))
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[position] for position in batch) <= budget
    longest = [max(lengths[position] for position in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_short_texts_are_not_padded_to_a_long_one_where_a_pass_of_their_own_costs_less():
    assert list(token_batches([10, 400, 12, 11], 4000)) == [[1], [2, 3, 0]]
    assert list(token_batches([30, 28, 25], 4000)) == [[0, 1, 2]]  # a little padding costs less than a pass
    assert list(token_batches([300, 20], 600)) == [[0], [1]]


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        list(token_batches([1], 0))
