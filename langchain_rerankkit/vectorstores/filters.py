"""Metadata filters: a function, or a dict with langchain-community's ``$`` operators."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Filter", "compile_filter"]

Filter = Mapping[str, Any] | Callable[[dict[str, Any]], bool]
"""Field values to match, or a function of one document's metadata."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$neq": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$in": lambda value, choices: value in choices,
    "$nin": lambda value, choices: value not in choices,
}


def compile_filter(filter: Filter) -> Callable[[dict[str, Any]], bool]:
    """A test of one document's metadata.

    Raises:
        TypeError: If the filter is neither a dict nor a function.
        ValueError: If an operator is unknown.
    """
    if callable(filter):
        return lambda metadata: bool(filter(dict(metadata)))
    if not isinstance(filter, Mapping):
        msg = f"filter must be a dict, or a function of the metadata, not {type(filter).__name__}."
        raise TypeError(msg)
    tests = [_compile_condition(key, condition) for key, condition in filter.items()]
    return tests[0] if len(tests) == 1 else lambda metadata: all(test(metadata) for test in tests)


def _compile_condition(key: str, condition: Any) -> Callable[[dict[str, Any]], bool]:
    if key in ("$and", "$or"):
        combine, parts = (all if key == "$and" else any), [compile_filter(part) for part in condition]
        return lambda metadata: combine(part(metadata) for part in parts)
    if key == "$not":
        part = compile_filter(condition)
        return lambda metadata: not part(metadata)
    if not isinstance(condition, Mapping):
        condition = {"$in" if isinstance(condition, list) else "$eq": condition}
    if str(key).startswith("$") or not condition or condition.keys() - _OPERATORS:
        msg = f"filter: no such operator in {key!r} or its keys {list(condition)}. A dict is compared by {{'$eq': …}}."
        raise ValueError(msg)

    comparisons = [(_OPERATORS[name], operand) for name, operand in condition.items()]

    def test(metadata: dict[str, Any]) -> bool:
        value = metadata.get(key)
        try:
            for compare, operand in comparisons:  # a loop, for speed
                if not compare(value, operand):
                    return False
        except TypeError:  # None > 3: a document that lacks the key does not match
            return False
        return True

    return test
