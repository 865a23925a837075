"""What can be evaluated, taken apart into stages that are asked one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_rerankkit.base import Reranker
from langchain_rerankkit.evaluation.datasets.trec import load_run

__all__ = ["Line", "System", "is_compression_retriever", "lines_of"]

System = Any
"""A retriever, a reranker or other document compressor, a retriever with a compressor, or a run."""


@dataclass(frozen=True)
class Line:
    """One line of the table: a first stage, and perhaps a reranker and how many documents are kept after it.

    Attributes:
        name: The line's name.
        source: A Runnable from a question to documents, or a run: ids, or scores by id, of each question.
        first: Name of the line that has the first stage alone.
        reranker: What reorders its documents.
        cut: How many are kept then; None for all.
    """

    name: str
    source: Any
    first: str
    reranker: BaseDocumentCompressor | None = None
    cut: int | None = None


def is_compression_retriever(system: Any) -> bool:
    """Whether it is a retriever with a compressor, of whichever package."""
    return hasattr(system, "base_retriever") and hasattr(system, "base_compressor")


def lines_of(systems: System | Mapping[str, System]) -> list[Line]:
    """The lines of the table.

    Raises:
        ValueError: If there is no system, one is of the wrong kind, or a reranker has nothing to reorder.
    """
    named = _named(systems)
    lines: list[Line] = []
    alone = {id(system): name for name, system in named.items()}
    for name, system in named.items():
        if is_compression_retriever(system):
            source = system.base_retriever
            if id(source) not in alone:
                alone[id(source)] = f"{name}, without reranker"
                while alone[id(source)] in named:
                    alone[id(source)] += " again"
                lines.append(Line(alone[id(source)], source, alone[id(source)]))
            lines.append(Line(name, source, alone[id(source)], *_compressor_and_cut(system)))
        elif isinstance(system, BaseDocumentCompressor):
            if not lines:
                msg = f"{name!r} is a reranker and comes first: put the retriever or run that it reorders before it."
                raise ValueError(msg)
            lines.append(Line(name, lines[0].source, lines[0].first, system))
        elif isinstance(system, (str, Path)):
            lines.append(Line(name, load_run(system), name))
        elif isinstance(system, (Runnable, Mapping)):
            lines.append(Line(name, system, name))
        elif callable(system):
            _check_function(name, system)
            lines.append(Line(name, RunnableLambda(system), name))
        else:
            msg = f"{name!r} is a {type(system).__name__}; a system is a retriever, a reranker, or a run."
            raise ValueError(msg)
    return lines


def _named(systems: System | Mapping[str, System]) -> Mapping[str, System]:
    if isinstance(systems, (list, tuple)):
        msg = "Give systems by name: {'FAISS': retriever, 'reranked': reranker}."
        raise TypeError(msg)
    if isinstance(systems, Mapping):
        if not systems:
            msg = "Give at least one system to evaluate."
            raise ValueError(msg)
        return systems
    return {Path(systems).name if isinstance(systems, (str, Path)) else type(systems).__name__: systems}


def _check_function(name: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind("question")
    except TypeError as error:
        msg = (
            f"The function {name!r} does not take a question alone ({error}). A reranker made of a function is "
            "FunctionReranker(function=…)."
        )
        raise ValueError(msg) from error
    except ValueError:  # some builtins do not tell their signature
        return


def _compressor_and_cut(system: Any) -> tuple[BaseDocumentCompressor, int | None]:
    compressor, cut = system.base_compressor, getattr(system, "k", None)
    if cut is not None and isinstance(compressor, Reranker):
        # As our retriever does: its k goes before the reranker's own top_n. The copy shares the model.
        return compressor.model_copy(update={"top_n": cut}), None
    return compressor, cut
