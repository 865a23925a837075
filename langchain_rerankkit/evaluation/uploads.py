"""Datasets and finished evaluations on LangSmith."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from langchain_rerankkit._optional import require
from langchain_rerankkit.evaluation.datasets.dataset import Dataset, Question
from langchain_rerankkit.evaluation.datasets.sources import example_id

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.schemas import Dataset as LangSmithDataset
    from langsmith.schemas import Example, TracerSession

    from langchain_rerankkit.evaluation.report import EvaluationReport, SystemResult

__all__ = ["local_examples", "push_dataset", "push_report", "pushed", "uploading"]

_LOCAL = UUID(int=0)  # LangSmith's own id for "no dataset"
_CHUNK = 500  # examples in one request
_QUEUE = 2000  # runs and scores that are sent together; LangSmith's client drops what is beyond 10,000


def push_dataset(dataset: Dataset, client: Client | None = None, *, name: str | None = None) -> LangSmithDataset:
    """Make a LangSmith dataset hold these questions, with their gold.

    An example's inputs are ``{"question"}``, its outputs ``{"documents": {id: grade}}``, ``{"answers": […]}`` and
    ``{"aspects": {name: {id: grade}}}`` as far as the dataset has them, and its metadata has the question's ``id``. Its LangSmith id follows from the question's, so
    pushing again changes what has changed and doubles nothing. Examples that are not in the dataset stay. Documents are
    not uploaded.

    Args:
        dataset: Questions with gold.
        client: The LangSmith client; by default one from the environment.
        name: Name of the LangSmith dataset, which is created if it is not there; by default the dataset's.

    Raises:
        ValueError: If the dataset has no question, or no name of its own and none is given.
    """
    return pushed(dataset, uploading(client), name)[0]


def push_report(
    report: EvaluationReport, client: Client | None = None, *, name: str | None = None
) -> dict[str, TracerSession]:
    """Make an experiment of each system of a finished evaluation.

    Each question becomes a run with document ids and scores as its outputs, its metrics as feedback, and the error
    where the system failed on it. Means, latency and usage become feedback of the experiment, the report's notes its
    description. The times that LangSmith shows for these runs mean nothing: they were not made there. Documents are not
    uploaded. Each call makes new experiments.

    Args:
        report: What `evaluate` returned.
        client: The LangSmith client; by default one from the environment.
        name: Name of the LangSmith dataset that the experiments belong to; by default the report's. Its examples stay as
            they are, those that are missing are created.

    Returns:
        The experiment of each system, by name; its ``url`` leads to it.

    Raises:
        ValueError: If there is no question, or a question of that id reads differently on LangSmith.
    """
    client = uploading(client)
    asked = report.question_texts or {id_: id_ for id_ in report.baseline.rankings}
    questions = tuple(Question(id_, text, documents=report.gold.get(id_, {})) for id_, text in asked.items())
    dataset = Dataset(questions, name=report.dataset)
    found, examples = pushed(dataset, client, name, update=False)
    return {system.name: _push_system(report, system, client, found, examples) for system in report.systems}


def _push_system(
    report: EvaluationReport,
    system: SystemResult,
    client: Client,
    found: LangSmithDataset,
    examples: dict[str, Example],
) -> TracerSession:
    experiment = client.create_project(
        f"{system.name}-{uuid4().hex[:8]}",
        description="\n".join(report.notes) or None,
        metadata={"made_by": "langchain-rerankkit", "system": system.name, "reorders": system.source},
        reference_dataset_id=found.id,
        num_examples=len(examples),
        num_repetitions=1,
        evaluator_keys=report.metrics,
    )
    waiting = 0
    for id_, example in examples.items():
        run, now = uuid4(), datetime.now(timezone.utc)
        outputs = {"documents": list(system.rankings.get(id_, ())), "scores": list(system.document_scores.get(id_, ()))}
        client.create_run(
            name=system.name,
            run_type="retriever",
            inputs=dict(example.inputs or {}),
            id=run,
            trace_id=run,
            dotted_order=f"{now:%Y%m%dT%H%M%S%fZ}{run}",
            project_name=experiment.name,
            reference_example_id=example.id,
            start_time=now,
            end_time=now,
            outputs=outputs,
            error=system.failures.get(id_),
        )
        for metric, scores in system.per_question.items():
            if id_ in scores:
                client.create_feedback(
                    run, metric, score=float(scores[id_]), trace_id=run, session_id=experiment.id, start_time=now
                )
        waiting += 1 + len(system.per_question)
        if waiting > _QUEUE:
            client.flush()
            waiting = 0
    for key, value in _summary(system).items():
        client.create_feedback(key=key, score=value, project_id=experiment.id)
    client.flush()
    return client.update_project(experiment.id, metadata=experiment.metadata, end_time=datetime.now(timezone.utc))


def _summary(system: SystemResult) -> dict[str, float]:
    summary = {f"mean_{metric}": mean for metric, mean in system.scores.items()}
    for stage, latency in (("retrieval", system.retrieval), ("reranking", system.reranking)):
        if latency is not None:
            summary.update({f"{stage}_seconds_p50": latency.p50, f"{stage}_seconds_p95": latency.p95})
    summary.update({f"usage_{name}": amount for name, amount in (system.usage or {}).items()})
    # A mean over no question is no number.
    return {key: float(value) for key, value in summary.items() if value is not None and math.isfinite(value)}


def pushed(
    dataset: Dataset, client: Client, name: str | None = None, *, update: bool = True
) -> tuple[LangSmithDataset, dict[str, Example]]:
    """Push a dataset, and return LangSmith's with its examples by question id.

    Without ``update`` examples that are there stay as they are, and must have the same questions.
    """
    if not dataset.questions:
        msg = "The dataset has no questions."
        raise ValueError(msg)
    name = name or _name(dataset)
    try:
        found = client.read_dataset(dataset_name=name)
    except require("langsmith.utils", extra="langsmith").LangSmithNotFoundError:
        found = client.create_dataset(name, description="Questions with gold, by langchain-rerankkit")
    rows = {row["id"]: row for row in _rows(dataset, found.id)}
    there = {e.id: e for e in client.list_examples(dataset_id=found.id) if e.id in rows}
    fields = ("inputs", "outputs", "metadata")
    changed = []
    for id_, example in there.items():
        if not update and (example.inputs or {}).get("question") != rows[id_]["inputs"]["question"]:
            msg = f"Question {rows[id_]['metadata']['id']!r} reads differently in {name!r}: give another name=."
            raise ValueError(msg)
        # What others have added stays.
        merged = {field: {**(getattr(example, field) or {}), **rows[id_][field]} for field in fields}
        if any(merged[field] != (getattr(example, field) or {}) for field in fields):
            changed.append({"id": id_, "dataset_id": found.id, **merged})
    missing = [
        {"id": id_, "inputs": row["inputs"], "reference_outputs": row["outputs"], "metadata": row["metadata"]}
        for id_, row in rows.items()
        if id_ not in there
    ]
    for chunk in _chunks(missing):
        client.create_examples(dataset_id=found.id, examples=chunk)
    if update:
        for chunk in _chunks(changed):
            client.update_examples(dataset_id=found.id, updates=chunk)
    if missing or (changed and update):
        there = {e.id: e for e in client.list_examples(dataset_id=found.id) if e.id in rows}
    schemas = require("langsmith.schemas", extra="langsmith")
    return found, {row["metadata"]["id"]: there.get(id_) or schemas.Example(**row) for id_, row in rows.items()}


def local_examples(dataset: Dataset) -> list[Example]:
    """Examples that belong to no dataset of LangSmith's."""
    example = require("langsmith.schemas", extra="langsmith").Example
    return [example(**row) for row in _rows(dataset, _LOCAL)]


def _rows(dataset: Dataset, dataset_id: UUID) -> Iterator[dict[str, Any]]:
    """The fields of each question's example. All have the same outputs, so that each is judged in the same way."""
    by_documents = any(question.documents for question in dataset.questions)
    by_answers = any(question.answers for question in dataset.questions)
    for question in dataset.questions:
        outputs: dict[str, Any] = {}
        if by_documents:
            outputs["documents"] = dict(question.documents)
        if question.aspects:
            outputs["aspects"] = {name: dict(grades) for name, grades in question.aspects.items()}
        if by_answers:
            outputs["answers"] = list(question.answers)
        yield {
            "id": example_id(dataset_id, question.id),
            "dataset_id": dataset_id,
            "inputs": {"question": question.text},
            "outputs": outputs,
            "metadata": {"id": question.id},
        }


def _name(dataset: Dataset) -> str:
    if dataset.name == Dataset.name:
        msg = f"The dataset has no name but {dataset.name!r}, which others have too: give it one, Dataset(…, name=…)."
        raise ValueError(msg)
    return dataset.name


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), _CHUNK):
        yield list(rows[start : start + _CHUNK])


def uploading(client: Client | None) -> Client:
    """The client, or one from the environment, and never one that loses a share of the runs."""
    client = client or require("langsmith", extra="langsmith").Client(tracing_sampling_rate=1.0)
    if client.tracing_sample_rate not in {None, 1.0}:
        msg = (
            f"This client uploads only a share of {client.tracing_sample_rate} of all runs, so the experiment would be "
            "incomplete: pass Client(tracing_sampling_rate=1.0)."
        )
        raise ValueError(msg)
    return client
