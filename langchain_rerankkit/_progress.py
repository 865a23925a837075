"""Progress bars, for what takes longer than two seconds."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["load_tqdm", "progress"]

_Item = TypeVar("_Item")
_DELAY = 2.0  # seconds before a bar shows


def progress(items: Iterable[_Item], total: int, what: str) -> Iterable[_Item]:
    """The same items, with a bar in a terminal or notebook once it takes more than two seconds.

    One switch turns all bars off: the environment variable ``RERANKKIT_PROGRESS=0``. Without tqdm there are none.

    Args:
        items: What is gone through.
        total: How many there are.
        what: A word or two before the bar.
    """
    if total <= 1 or os.environ.get("RERANKKIT_PROGRESS", "1").lower() in {"0", "false", "off", "no"}:
        return items
    tqdm = load_tqdm()
    if tqdm is None:
        return items
    # None: not where standard error is a file, which every frame of a bar would fill.
    bar: Iterable[_Item] = tqdm(items, total=total, desc=what, delay=_DELAY, leave=False, disable=None)
    return bar


def load_tqdm() -> Any:
    """The bar that fits the terminal or notebook; None where tqdm is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets plain bars, and need not hear of it
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return None
    return tqdm
