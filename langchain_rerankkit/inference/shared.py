"""Loaded models, one of a kind in a process."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict, deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["release", "shared"]

_Model = TypeVar("_Model")

_KEPT = 2  # models kept though nobody holds them, for rerankers that are made anew for every call

_models: weakref.WeakValueDictionary[Hashable, object] = weakref.WeakValueDictionary()
_recent: deque[object] = deque(maxlen=_KEPT)
_locks: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
_lock = threading.Lock()


def shared(key: Hashable, make: Callable[[], _Model]) -> _Model:
    """The model of a key: made once however many threads ask, and shared as long as anybody holds it.

    Args:
        key: Everything that makes one model differ from another: files, revision, backend, precision, device, threads.
        make: Loads the model.
    """
    with _lock:
        lock = _locks[key]
    with lock:  # loading one model does not hold up another
        model: _Model | None = _models.get(key)  # type: ignore[assignment]
        if model is None:
            model = make()
    with _lock:
        _models[key] = model
        _drop(model)
        _recent.append(model)
    return model


def release(model: object) -> None:
    """Stop keeping a model: its memory is free as soon as nobody holds it."""
    with _lock:
        _drop(model)


def _drop(model: object) -> None:
    for other in list(_recent):
        if other is model:
            _recent.remove(other)
