"""LangSmith's API as far as its client asks for it, on the loopback interface: datasets, examples, experiments, runs, feedback.

It refuses what the real one refuses: a name or an id that is there already, an example of no dataset.
"""

from __future__ import annotations

import email
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from tests.rerank_server import Reply, Request, Server, serve

TENANT = str(uuid4())


class LangSmith:
    """What has arrived.

    Attributes:
        datasets: By id.
        examples: By id; the fields as JSON.
        sessions: Experiments by id.
        runs: By id.
        feedback: In the order of arrival.
        calls: Method and path of all requests.
        multipart: Whether examples travel as multipart, as they do to the hosted LangSmith.
        wait: Seconds before runs and feedback are taken.
    """

    def __init__(self, *, multipart: bool = True, wait: float = 0) -> None:
        self.datasets: dict[str, dict[str, Any]] = {}
        self.examples: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.feedback: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str]] = []
        self.multipart = multipart
        self.wait = wait
        self.server: Server | None = None

    @property
    def url(self) -> str:
        return self.server.url

    def __call__(self, request: Request) -> Reply:  # noqa: C901, PLR0911, PLR0912 - a table of routes
        self.calls.append((request.method, request.path))
        match [request.method, *request.path.strip("/").split("/")]:
            case ["GET", "info"]:
                flags = {"dataset_examples_multipart_enabled": self.multipart}
                return Reply({"version": "0.15.0", "instance_flags": flags, "batch_ingest_config": BATCHES})
            case ["GET", "settings"]:
                return Reply({"id": TENANT, "display_name": "tests", "created_at": now()})
            case ["GET", "datasets"]:
                return Reply([d for d in self.datasets.values() if d["name"] == request.query["name"]])
            case ["POST", "datasets"]:
                return self._create(self.datasets, {"id": str(uuid4()), "created_at": now(), **request.json})
            case ["GET", "examples"]:
                rows = [e for e in self.examples.values() if e["dataset_id"] == request.query["dataset"]]
                start = int(request.query["offset"])
                return Reply(rows[start : start + int(request.query["limit"])])
            case ["POST", "examples", "bulk"]:
                return Reply([self._add_example(row["dataset_id"], row) for row in request.json])
            case ["PATCH", "examples", "bulk"]:
                for row in request.json:
                    self.examples[row["id"]].update(row, modified_at=now())
                return Reply({"count": len(request.json)})
            case ["POST" | "PATCH" as method, "v1", "platform", "datasets", dataset, "examples"]:
                rows = examples_of(request)
                for id_, row in rows.items():
                    if method == "POST":
                        self._add_example(dataset, {"id": id_, **row})
                    else:
                        self.examples[id_].update(row, modified_at=now())
                return Reply({"count": len(rows), "example_ids": list(rows)})
            case ["GET", "sessions"]:
                return Reply(list(self.sessions.values())[: int(request.query["limit"])])
            case ["POST", "sessions"]:
                return self._create(self.sessions, {"tenant_id": TENANT, "start_time": now(), **request.json})
            case ["PATCH", "sessions", id_]:
                self.sessions[id_].update({k: v for k, v in request.json.items() if v is not None})
                return Reply(self.sessions[id_])
            case ["POST", "runs", "multipart"]:
                for name, part in parts_of(request):
                    self._ingest(name.split("."), part)
                return Reply({}, wait=self.wait)
            case ["POST", "feedback"]:
                self.feedback.append(request.json)
                return Reply({})
        raise AssertionError((request.method, request.path))

    def _create(self, table: dict[str, dict[str, Any]], row: dict[str, Any]) -> Reply:
        if any(other["name"] == row["name"] for other in table.values()):
            return Reply({"detail": "exists"}, 409)
        table[row["id"]] = row
        return Reply(row)

    def _add_example(self, dataset: str, row: dict[str, Any]) -> dict[str, Any]:
        assert dataset in self.datasets
        assert row["id"] not in self.examples, "an example is created twice"
        self.examples[row["id"]] = {**row, "dataset_id": dataset, "created_at": now(), "modified_at": now()}
        return self.examples[row["id"]]

    def _ingest(self, name: list[str], part: Any) -> None:
        match name:
            case ["post" | "patch", id_]:
                self.runs.setdefault(id_, {}).update({k: v for k, v in part.items() if v is not None})
            case ["post" | "patch", id_, field]:
                self.runs.setdefault(id_, {})[field] = part
            case ["feedback", _]:
                self.feedback.append(part)
            case _:
                raise AssertionError(name)

    # --- what tests ask -----------------------------------------------------------------------------------------------

    def experiment(self, name: str) -> dict[str, Any]:
        """The only experiment whose name begins so."""
        (found,) = [session for session in self.sessions.values() if session["name"].rpartition("-")[0] == name]
        return found

    def runs_of(self, experiment: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Top runs of an experiment, by the question's id."""
        return {
            self.examples[run["reference_example_id"]]["metadata"]["id"]: run
            for run in self.runs.values()
            if run.get("session_name") == experiment["name"] and run.get("reference_example_id")
        }

    def scores_of(self, run: dict[str, Any]) -> dict[str, Any]:
        return {row["key"]: row.get("score") for row in self.feedback if row.get("run_id") == run["id"]}

    def summary_of(self, experiment: dict[str, Any]) -> dict[str, Any]:
        rows = [row for row in self.feedback if row.get("run_id") is None and row["session_id"] == experiment["id"]]
        return {row["key"]: row["score"] for row in rows}


BATCHES = {
    "use_multipart_endpoint": True,
    "size_limit": 100,
    "size_limit_bytes": 20_000_000,
    "scale_up_nthreads_limit": 4,
    "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4,
}


def now() -> str:
    return datetime.now(timezone.utc).isoformat()


def parts_of(request: Request) -> Iterator[tuple[str, Any]]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    for part in email.message_from_bytes(head + request.body).get_payload():
        yield part.get_param("name", header="content-disposition"), json.loads(part.get_payload(decode=True))


def examples_of(request: Request) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name, part in parts_of(request):
        id_, _, field = name.partition(".")
        rows.setdefault(id_, {}).update({field: part} if field else part)
    return rows


@contextmanager
def serve_langsmith(**options: Any) -> Iterator[LangSmith]:
    """Serve until the block ends."""
    langsmith = LangSmith(**options)
    with serve(langsmith) as langsmith.server:
        yield langsmith
