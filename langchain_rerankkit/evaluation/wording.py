"""Words that notes and findings share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["counted", "some"]


def counted(number: int, one: str, many: str = "") -> str:
    """``"1 question"``, ``"2 questions"``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def some(names: Sequence[object], most: int = 5) -> str:
    """A few of them."""
    shown = ", ".join(map(str, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
