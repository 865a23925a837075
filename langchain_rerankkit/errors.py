"""What can go wrong, as one tree.

    RerankKitError
     ├─ MissingExtraError(ImportError)    an optional dependency is not installed
     ├─ ModelNotFoundError(OSError)       model files are missing, or not the ones expected
     ├─ ScoreError(ValueError)            a backend broke the contract: wrong count, not finite
     ├─ OrderError(ValueError)            a language model's answer is not an order
     ├─ EndpointError(OSError)            a rerank endpoint failed, refused, or answered something else
     ├─ ConfigError(ValueError)           a configuration of a reranker is wrong, or says what it may not
     ├─ IndexFormatError(ValueError)      a saved index is foreign, damaged or was tampered with
     └─ DatasetError(ValueError)          an evaluation file is wrong: file, line and field

Each is also the builtin that a caller would expect, so ``except ValueError`` keeps working. No message ever holds a
secret, a query or a document's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import ValidationError

__all__ = [
    "ConfigError",
    "DatasetError",
    "EndpointError",
    "IndexFormatError",
    "MissingExtraError",
    "ModelNotFoundError",
    "OrderError",
    "RerankKitError",
    "ScoreError",
    "mistakes",
]


class RerankKitError(Exception):
    """Base of every error that this package raises on purpose."""


class MissingExtraError(RerankKitError, ImportError):
    """An optional dependency is not installed.

    Args:
        module: The module that could not be imported.
        extra: The extra of this package that brings it.
        reason: The original import error, for the case of an installed but broken package.
    """

    def __init__(self, module: str, extra: str, reason: str = "") -> None:
        self.module = module
        self.extra = extra
        self.reason = reason
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"The module {module!r} is needed and could not be imported{because}. "
            f"Run: pip install 'langchain-rerankkit[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.module, self.extra, self.reason)


class ModelNotFoundError(RerankKitError, OSError):
    """Model files are missing, or are not the files expected.

    Args:
        message: What is wrong and what to do about it.
        missing: Names of the files that were looked for and not found.
        searched: Folders that were looked at.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = (), searched: Sequence[str | Path] = ()) -> None:
        self.missing = tuple(missing)
        self.searched = tuple(str(place) for place in searched)
        super().__init__(message)


class ScoreError(RerankKitError, ValueError):
    """A backend broke the contract: a wrong number of scores, or a score that is not finite."""


class OrderError(RerankKitError, ValueError):
    """A language model's answer is not an order of the passages it was shown.

    Args:
        message: What is wrong and what to do about it. It does not quote the answer, which may quote documents.
        answer: What the model said.
    """

    def __init__(self, message: str, *, answer: str = "") -> None:
        self.answer = answer
        super().__init__(message)


class EndpointError(RerankKitError, OSError):
    """A rerank endpoint could not be reached, refused the request, or answered something that is no ranking.

    Args:
        message: What is wrong and what to do about it; never with the key, the query or a document in it.
        provider: Name of the provider.
        status: HTTP status of the answer, where there was one.
        retry_after: Seconds after which the endpoint may answer again, where that is known.
        retryable: Whether the same request may succeed later.
        request_id: What the provider calls the request, for its support.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        request_id: str | None = None,
    ) -> None:
        self.provider = provider
        self.status = status
        self.retry_after = retry_after
        self.retryable = retryable
        self.request_id = request_id
        super().__init__(message)


class IndexFormatError(RerankKitError, ValueError):
    """A saved index is not one of ours, is damaged, or does not match its checksum."""


class ConfigError(RerankKitError, ValueError):
    """A configuration of a reranker is wrong, or says what it may not.

    Args:
        message: What is wrong and what to do about it; without values, which may be secret.
        file: The file, where there is one.
        field: Where in the configuration: ``"rerankers[1].top_n"``.
    """

    def __init__(self, message: str, *, file: str | Path | None = None, field: str = "") -> None:
        self.message = message
        self.file = None if file is None else str(file)
        self.field = field
        where = ", ".join(filter(None, (self.file, field)))
        super().__init__(f"{where}: {message}" if where else message)


class DatasetError(RerankKitError, ValueError):
    """An evaluation file is wrong.

    Args:
        message: What is wrong.
        file: The file, where there is one.
        line: Line in that file, counted from 1.
        field: The field of that line.
    """

    def __init__(
        self, message: str, *, file: str | Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.file = None if file is None else str(file)
        self.line = line
        self.field = field
        place = line if self.file is not None or line is None else f"row {line}"
        where = ":".join(str(part) for part in (self.file, place) if part is not None)
        if field is not None:
            where = f"{where}, field {field!r}" if where else f"field {field!r}"
        super().__init__(f"{where}: {message}" if where else message)


def mistakes(error: ValidationError) -> str:
    """What is wrong with fields, as one sentence for a person: without the values, which may be secret."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, mistake["loc"])), mistake["msg"].removeprefix("Value error, "))))
        for mistake in error.errors()
    )
