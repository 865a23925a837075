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


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        list(token_batches([1], 0))
