"""Generators that say what has to be done next, so that the same code serves threads and event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from typing import Any, TypeVar

__all__ = ["advance", "gather"]

_Value = TypeVar("_Value")


def advance(generator: Generator[Any, Any, Any], value: Any = None, error: Exception | None = None) -> tuple[bool, Any]:
    """Go on with a generator.

    Here and nowhere else, so that a StopIteration of what it asked for is not taken for its end.

    Args:
        generator: The generator.
        value: What came of its last step.
        error: What went wrong with it, in place of a value.

    Returns:
        Whether it ended, and what it yielded or returned.
    """
    try:
        return False, generator.send(value) if error is None else generator.throw(error)
    except StopIteration as stop:
        return True, stop.value


async def gather(coroutines: Sequence[Coroutine[Any, Any, _Value]]) -> list[_Value]:
    """Await all; when one fails the others are cancelled, and not left to go on spending."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
