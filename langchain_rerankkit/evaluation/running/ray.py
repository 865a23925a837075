"""Past one machine: rerankers on the actors of a Ray cluster.

Ray Data moves the questions, runs the actors, and starts them and their work again where a process or a machine dies
(https://docs.ray.io/en/latest/data/data.html). What is here maps questions to rows and rows to answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import MissingExtraError, ModelNotFoundError
from langchain_rerankkit.evaluation.running.asking import Asked, Item, Stage, ask, told
from langchain_rerankkit.records import RerankInput

if TYPE_CHECKING:
    import ray.data

__all__ = ["ask_on_ray", "rerank_dataset"]

_LARGEST = 16  # questions of a block, which is what is asked again after its actor died
_DEATHS = 2  # of restarted actors, after which a question counts as failed; Ray would start actors for it for ever


def ask_on_ray(
    stage: Stage, items: Sequence[Item], concurrency: int, **options: Any
) -> Iterator[tuple[str, Asked[Document]]]:
    """The engine that asks from actors of a Ray cluster, each with a copy of the system.

    The cluster is the one that ``ray.init`` or the variable ``RAY_ADDRESS`` names, else this machine. Documents and
    answers travel as Python objects, by Ray's own serialisation, so they arrive as they were sent.

    Args:
        stage: What is asked. It must be picklable, and its package installed on the workers.
        items: The questions.
        concurrency: Number of actors. Those that the cluster has no room for wait until it has.
        **options: What each actor needs, as `ray.data.Dataset.map_batches` takes it: ``num_gpus=1``, say.

    Yields:
        Question id and answer, as they arrive. The first answer of each actor is a cold one.

    Raises:
        MissingExtraError: If Ray, or a package of the system, is missing.
        ModelNotFoundError: If model files are missing.
    """
    if not items:
        return
    ray = require("ray", extra="ray")
    data = require("ray.data", extra="ray")
    size = max(1, min(_LARGEST, len(items) // (4 * concurrency)))  # every actor gets some, and slow ones get fewer
    dataset = data.from_arrow(
        [_table("item", _objects(items[start : start + size])) for start in range(0, len(items), size)]
    )
    dataset.context.enable_progress_bars = False  # there is one of ours
    begun = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Begun).remote()
    answers = dataset.map_batches(
        _Asker,
        fn_constructor_args=(stage, begun),
        batch_size=size,  # a block; said aloud, since Ray wants to hear it where there are GPUs
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=concurrency, max_tasks_in_flight_per_actor=2),
        **options,
    )
    for block in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
        for answer in block.column("answer").to_pylist():
            if isinstance(answer, Exception):
                raise answer
            yield answer


class _Asker:
    """An actor: asks its copy of the system."""

    def __init__(self, stage: Stage, begun: Any) -> None:
        ray = require("ray", extra="ray")
        self._stage = stage
        self._cold = True
        # Only an actor that has died may have died of a question.
        self._begun = begun if ray.get_runtime_context().was_current_actor_reconstructed else None
        self._wait = ray.get

    def __call__(self, table: Any) -> Any:
        return _table("answer", _objects([self._answer(item) for item in table.column("item").to_pylist()]))

    def _answer(self, item: Item) -> tuple[str, Asked[Document]] | Exception:
        if self._begun is not None and self._wait(self._begun.begin.remote(item.id)) > _DEATHS:
            return item.id, Asked(error="WorkerDied: each process that was asked this died of it.")
        cold, self._cold = self._cold, False
        try:
            asked = ask(self._stage, item, cold=cold)
        except (MissingExtraError, ModelNotFoundError) as error:
            # As a value, which comes through as it is; a raised one would be wrapped in errors of Ray's.
            return error
        if self._begun is not None:
            self._begun.end.remote(item.id)
        return item.id, asked


class _Begun:
    """An actor: how often each question was begun and not brought to an end."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, question: str) -> int:
        self._begun[question] += 1
        return self._begun[question]

    def end(self, question: str) -> None:
        del self._begun[question]


def rerank_dataset(
    dataset: ray.data.Dataset,
    reranker: Reranker,
    *,
    query: str = "query",
    documents: str = "documents",
    scores: str = "scores",
    error: str = "error",
    batch_size: int = 16,
    concurrency: int | tuple[int, int] = 1,
    **options: Any,
) -> ray.data.Dataset:
    """Rerank the documents of every row of a Ray dataset.

    No row is lost and no other column is touched. The documents themselves are as they were given, in the new order, cut
    by the reranker's ``top_n`` and ``min_score``. A row that fails keeps its documents in the order they came in, has no
    scores (null), and says why in the column of errors. A row whose reranker fell back to the given order by
    ``on_error="keep_order"`` says the reason there too, beside scores of ``-inf``.

    Example::

        rows = ray.data.read_parquet("s3://bucket/candidates")
        ranked = rerank_dataset(rows, CrossEncoderReranker(top_n=10), concurrency=4, num_gpus=1)
        ranked.write_parquet("s3://bucket/ranked")

    Args:
        dataset: Rows with a query and a list of documents. A document is a text, or a mapping with its text under
            ``"page_content"`` or ``"text"``, and perhaps ``"id"`` and ``"metadata"``; other fields count as metadata.
        reranker: Each actor loads its own copy at its first batch.
        query: Name of the column of queries.
        documents: Name of the column of documents.
        scores: Name of the new column of scores, aligned with the documents, best first.
        error: Name of the new column of errors; null where all went well.
        batch_size: Rows that the reranker judges in one pass.
        concurrency: Number of actors, or the least and the most of them.
        **options: What each actor needs, as `ray.data.Dataset.map_batches` takes it: ``num_gpus=1``, ``num_cpus``,
            ``memory``, ``resources``, ``runtime_env``, ….

    Returns:
        A dataset that reranks when it is consumed, as all of Ray's do.

    Raises:
        MissingExtraError: If Ray is missing.
        TypeError: If the reranker is none of this package's.
        ValueError: If a column is missing, or would be overwritten. Where Ray does not know the columns beforehand, this
            is raised by the work itself, as are missing packages and model files on a worker.
    """
    data = require("ray.data", extra="ray")
    if not isinstance(reranker, Reranker):
        msg = f"A Reranker is needed, not {type(reranker).__name__}; FunctionReranker makes one of any function."
        raise TypeError(msg)
    columns = _Columns(query, documents, scores, error)
    schema = dataset.schema(fetch_if_missing=False)
    if schema is not None:
        columns.check(schema.names)
    low, high = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    return dataset.map_batches(
        _Rows,
        # With details, since they tell where a document was.
        fn_constructor_args=(reranker.model_copy(update={"details": True}), columns),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(min_size=low, max_size=high),
        **options,
    )


@dataclass(frozen=True)
class _Columns:
    """Names of columns."""

    query: str
    documents: str
    scores: str
    error: str

    def check(self, names: Sequence[str]) -> None:
        """Whether what is needed is there, and what is made is not."""
        for name in (self.query, self.documents):
            if name not in names:
                msg = (
                    f"The dataset has no column {name!r}; it has {sorted(names)}. Name yours by query= and documents=."
                )
                raise ValueError(msg)
        for name in (self.scores, self.error):
            if name in names:
                msg = f"The dataset has a column {name!r} already. Name the new ones by scores= and error=."
                raise ValueError(msg)


class _Rows:
    """An actor: reranks batches of rows with its copy of the reranker."""

    def __init__(self, reranker: Reranker, columns: _Columns) -> None:
        self._reranker = reranker
        self._columns = columns

    def __call__(self, table: Any) -> Any:
        pa = require("pyarrow", extra="ray")
        columns = self._columns
        columns.check(table.column_names)
        place = table.column_names.index(columns.documents)
        queries, given = table.column(columns.query).to_pylist(), table.column(place).to_pylist()
        orders, scores, errors = zip(*self._rerank(queries, given), strict=True) if given else ((), (), ())
        table = table.set_column(place, columns.documents, _reordered(table.column(place), given, orders))
        table = table.append_column(columns.scores, pa.array(scores, type=pa.list_(pa.float64())))
        return table.append_column(columns.error, pa.array(errors, type=pa.string()))

    def _rerank(
        self, queries: list[Any], given: list[Any]
    ) -> Iterator[tuple[list[int], list[float] | None, str | None]]:
        """Of each row the new order of its documents, their scores, and what went wrong."""
        inputs = [_input(*row) for row in zip(queries, given, strict=True)]
        answers = iter(
            self._reranker.batch([one for one in inputs if not isinstance(one, Exception)], return_exceptions=True)
        )
        for row, one in zip(given, inputs, strict=True):
            # With return_exceptions there are exceptions among the answers, which the annotation of langchain-core lacks.
            answer: Any = one if isinstance(one, Exception) else next(answers)
            if isinstance(answer, (MissingExtraError, ModelNotFoundError)):
                raise answer  # no row could be reranked
            if isinstance(answer, Exception):
                count = len(row) if isinstance(row, Sequence) else 0
                yield list(range(count)), None, told(answer)
                continue
            details = [document.metadata["rerank"] for document in answer]
            yield (
                [line["previous_rank"] - 1 for line in details],
                [document.metadata["relevance_score"] for document in answer],
                next((line["reason"] for line in details if line["status"] == "fallback"), None),
            )


def _input(query: Any, given: Any) -> RerankInput | Exception:
    if given is None:
        return TypeError("The row has no documents (null).")
    try:
        return {"query": query, "documents": [_document(one) for one in given]}
    except (TypeError, ValueError) as error:
        return error


def _document(given: Any) -> Document:
    if isinstance(given, Document):
        return given
    if isinstance(given, str):
        return Document(page_content=given)
    if not isinstance(given, Mapping):
        msg = f"A document is a text or a mapping, not {type(given).__name__}."
        raise TypeError(msg)
    # Arrow gives every mapping of a column the same fields, null where it had none.
    fields = {name: value for name, value in given.items() if value is not None}
    text = next((fields.pop(name) for name in ("page_content", "text") if name in fields), None)
    if text is None:
        msg = f"A document needs 'page_content' or 'text'; this one has {sorted(fields)}."
        raise ValueError(msg)
    id_ = fields.pop("id", None)
    metadata = dict(fields.pop("metadata", {}))
    return Document(page_content=text, id=None if id_ is None else str(id_), metadata={**fields, **metadata})


def _reordered(column: Any, given: Sequence[Any], orders: Sequence[Sequence[int]]) -> Any:
    """The column with the elements of its lists in a new order, some left out: exactly the elements that were there."""
    pa = require("pyarrow", extra="ray")
    large = pa.types.is_large_list(column.type)
    if not (large or pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        # Python objects of Ray's: documents of different shapes, say.
        return _objects([row and [row[i] for i in order] for row, order in zip(given, orders, strict=True)])
    start, taken, ends = 0, [], [0]
    for row, order in zip(given, orders, strict=True):
        taken += [start + i for i in order]
        start += len(row or ())
        ends.append(len(taken))
    elements = require("pyarrow.compute", extra="ray").list_flatten(column).take(pa.array(taken, pa.int64()))
    lists, number = (pa.LargeListArray, pa.int64()) if large else (pa.ListArray, pa.int32())
    nulls = pa.array([row is None for row in given], pa.bool_())
    return lists.from_arrays(pa.array(ends, number), elements.combine_chunks(), mask=nulls)


def _table(name: str, column: Any) -> Any:
    return require("pyarrow", extra="ray").table({name: column})


def _objects(values: Sequence[Any]) -> Any:
    """Python objects as an Arrow column; said aloud, since Ray would try all other types first and warn of each."""
    return require("ray.data.extensions", extra="ray").ArrowPythonObjectArray.from_objects(values)
