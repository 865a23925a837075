"""Batches of similar length within a token budget: no padding wasted, no peak that grows with the candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["token_batches"]

_WORTH_A_PASS = 64  # tokens of padding: what a pass costs beside its rows, and smaller matrices, are about as much


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group texts so that a padded batch stays within a token budget.

    The longest text comes first, so the first batch is the one that needs the most memory: what fits then, fits for
    the rest of the call. Where shorter texts would be padded by more than a pass of their own costs, they get one.

    Args:
        lengths: Length of each text in tokens.
        budget: Tokens of one padded batch (rows times the longest row). A single text that is longer than the budget
            is a batch of its own.

    Yields:
        Positions into ``lengths``; every position occurs exactly once over all batches.

    Raises:
        ValueError: If the budget is not positive.
    """
    if budget < 1:
        msg = f"The token budget of a batch must be at least 1, not {budget}."
        raise ValueError(msg)
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        stop = min(len(order), start + max(1, budget // longest))
        while stop - start > 1:
            saved, cut = max(((longest - lengths[order[cut]]) * (stop - cut), cut) for cut in range(start + 1, stop))
            if saved <= _WORTH_A_PASS:
                break
            stop = cut
        yield order[start:stop]
        start = stop
