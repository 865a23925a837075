"""Bodies of requests as data: placeholders, and what stands in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["deep_merge", "filled", "leaves", "placeholders"]


def placeholders(template: Any) -> set[str]:
    """Names of the placeholders in a template: texts that begin with ``$``."""
    if isinstance(template, str):
        return {template[1:]} if template.startswith("$") else set()
    if isinstance(template, Mapping):
        return set().union(*(placeholders(part) for part in template.values()))
    if isinstance(template, Sequence):
        return set().union(*(placeholders(part) for part in template))
    return set()


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """A template with values in place of its placeholders, as `Profile` describes; values are never templates."""
    if isinstance(template, str):
        return values.get(template[1:]) if template.startswith("$") else template
    if isinstance(template, Mapping):
        if "each" in template:
            return [
                filled(template["each"], {**values, "text": text, "position": str(position)})
                for position, text in enumerate(values["documents"])
            ]
        parts = {name: filled(part, values) for name, part in template.items()}
        return {name: part for name, part in parts.items() if part is not None}
    if isinstance(template, list):
        return [filled(part, values) for part in template]
    return template


def leaves(options: Mapping[str, Any], *path: str) -> list[tuple[str, ...]]:
    """Where the values stand in a mapping of mappings: the keys that lead to each."""
    found: list[tuple[str, ...]] = []
    for name, value in options.items():
        inner = leaves(value, *path, name) if isinstance(value, Mapping) else []
        found += inner or [(*path, name)]
    return found


def deep_merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The first mapping with what the second one says, inner mappings key by key; None takes a key away."""
    merged = dict(first)
    for name, value in second.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = deep_merge(merged[name], value)
        else:
            merged[name] = value
    return merged
