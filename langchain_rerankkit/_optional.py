"""Optional dependencies: imported at first use, with an error that says which extra to install."""

from __future__ import annotations

import importlib
from typing import Any

from langchain_rerankkit.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str) -> Any:
    """Import an optional dependency.

    Args:
        module: Dotted name of the module, for example ``"sentence_transformers"``.
        extra: The extra of this package that brings it, for example ``"local"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: If it cannot be imported; the message holds the pip line and, for a package that is
            installed but broken, the original reason.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        raise MissingExtraError(module, extra, "" if missing else str(error)) from error
