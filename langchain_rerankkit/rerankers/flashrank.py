"""Reranking by FlashRank's small ONNX cross-encoders."""

from __future__ import annotations

import logging
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.models import default_cache_dir, is_offline
from langchain_rerankkit.inference.onnx import Graph
from langchain_rerankkit.inference.pairs import GraphPairs, Limits, score_pairs
from langchain_rerankkit.inference.tokens import Tokenizer
from langchain_rerankkit.ranking import sigmoid
from langchain_rerankkit.records import Answer, DetailedScores, ScoreRequest, by_request

__all__ = ["FlashRankReranker"]

_NEEDED = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
_MAX_BYTES = 2 << 30  # the largest published model is a few hundred megabytes
_TIMEOUT = 30.0  # seconds without a byte


class FlashRankReranker(Reranker):
    """Reranks with a model of FlashRank: a cross-encoder as an ONNX file, with no torch.

    Wraps ``flashrank.Ranker`` for its models and tokenisers and scores in batches of similar length within a token
    budget, where ``Ranker.rerank`` pads all passages to the longest in a single pass. Scores are the same.

    A model is downloaded at first use into ``cache_dir``, or read from ``model_path``. Nothing configures logging and
    nothing is written to ``/tmp``.
    """

    model: str = "ms-marco-TinyBERT-L-2-v2"
    """Name of a published FlashRank model."""

    model_path: str | None = None
    """Folder of a model of your own instead: one ``*.onnx`` file beside ``tokenizer.json`` and its configuration."""

    cache_dir: str | None = None
    """Folder for downloaded models; by default ``rerankkit/flashrank`` in the user's cache folder."""

    local_files_only: bool = False
    """Never download; also switched on by the environment variable ``HF_HUB_OFFLINE``."""

    sha256: str | None = None
    """Expected checksum of the downloaded archive. FlashRank publishes none: pin the one you have examined."""

    max_length: int = Field(default=512, ge=8)
    """Longest pair in tokens, as far as the model allows."""

    batch_tokens: int = Field(default=512, ge=1)
    """Tokens in one pass, padding included: bounds memory whatever the number of candidates."""

    client: Any = Field(default=None, exclude=True, repr=False)
    """A ready ``flashrank.Ranker`` (cross-encoders only)."""

    @model_validator(mode="after")
    def _check_client(self) -> Self:
        if self.client is not None and getattr(self.client, "session", None) is None:
            msg = "The client must be a flashrank.Ranker of a cross-encoder model."
            raise ValueError(msg)
        return self

    @override
    def _label(self) -> str:
        return Path(self.model_path).name if self.model_path else self.model

    @override
    def _load(self) -> GraphPairs:
        ranker = self.client
        if ranker is None:
            folder, file = self._files()
            ranker = _open_ranker(folder, file, self.max_length)
        return _as_pairs(ranker, self.max_length)

    @override
    def _score_many(self, requests: Sequence[ScoreRequest]) -> Sequence[Answer | Exception]:
        pairs = [(request.query, text) for request in requests for text in request.texts]
        outputs = score_pairs(self._ready(), pairs, Limits(), self.batch_tokens)
        # Two labels: the difference of the logits, whose sigmoid is the softmax of the second.
        scores = [row[-1] - (row[0] if len(row) > 1 else 0.0) for output in outputs for row in output.logits]
        details = [{"truncated": True} if output.truncated else {} for output in outputs]
        return [
            DetailedScores(of_request, said)
            for of_request, said in zip(by_request(requests, scores), by_request(requests, details), strict=True)
        ]

    @override
    def _activate(self, raw_score: float) -> float:
        return sigmoid(raw_score)

    def _files(self) -> tuple[Path, Path]:
        if self.model_path is not None:
            folder = Path(self.model_path).expanduser()
            files = sorted(folder.glob("*.onnx"))
            if len(files) > 1:
                msg = f"{folder} holds {len(files)} ONNX files: leave one."
                raise ModelNotFoundError(msg, searched=[folder])
            file = files[0] if files else folder / "*.onnx"
        else:
            config = require("flashrank.Config", extra="flashrank")
            cross_encoders = sorted(set(config.model_file_map) - set(config.listwise_rankers))
            if self.model not in cross_encoders:
                msg = (
                    f"{self.model!r} is not a cross-encoder of FlashRank ({', '.join(cross_encoders)}). Set model_path "
                    "for a folder of your own."
                )
                raise ModelNotFoundError(msg)
            folder = Path(self.cache_dir).expanduser() if self.cache_dir else default_cache_dir() / "flashrank"
            folder /= self.model
            file = folder / config.model_file_map[self.model]
            if not folder.exists():
                if self.local_files_only or is_offline():
                    msg = f"The model {self.model!r} is not in {folder}, and downloading is switched off."
                    raise ModelNotFoundError(msg, missing=[file.name], searched=[folder])
                _download(config.model_url.format(self.model), folder, self.sha256)
        missing = [name for name in (file.name, *_NEEDED) if not (folder / name).is_file()]
        if missing:
            msg = f"The FlashRank model folder {folder} lacks {', '.join(missing)}."
            raise ModelNotFoundError(msg, missing=missing, searched=[folder])
        return folder, file


def _as_pairs(ranker: Any, max_length: int) -> GraphPairs:
    """A ranker's tokenizer and ONNX session, run in passes of a token budget."""
    ort = require("onnxruntime", extra="flashrank")
    session, tokenizer = ranker.session, ranker.tokenizer
    inputs = frozenset(tensor.name for tensor in session.get_inputs())
    options = ort.RunOptions()
    if session.get_session_options().enable_cpu_mem_arena:
        # A session of the caller's: its memory goes back after each pass, not stays at the largest batch ever seen.
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(feed: dict[str, Any]) -> Any:
        return session.run(None, {name: array for name, array in feed.items() if name in inputs}, options)[0]

    return GraphPairs(
        Tokenizer(tokenizer.to_str()),
        Graph(run, "onnxruntime CPU", inputs, batch_tokens=512),
        pad_id=(tokenizer.padding or {}).get("pad_id", 0),
        max_length=(tokenizer.truncation or {}).get("max_length", max_length),
    )


def _open_ranker(folder: Path, file: Path, max_length: int) -> Any:
    """A ``flashrank.Ranker`` over a folder, without what its constructor does beside: logging set up, downloads."""
    flashrank = require("flashrank", extra="flashrank")
    ort = require("onnxruntime", extra="flashrank")
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False  # the arena never gives memory back
    # Threads that spin between passes would take the processor from the rest of the program.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    ranker = flashrank.Ranker.__new__(flashrank.Ranker)
    ranker.logger = logging.getLogger("flashrank")
    ranker.model_dir = folder
    ranker.llm_model = None
    ranker.session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    ranker.tokenizer = ranker._get_tokenizer(max_length)
    return ranker


def _download(url: str, folder: Path, checksum: str | None) -> None:
    """Fetch and unpack an archive; the folder appears whole or not at all."""
    requests = require("requests", extra="flashrank")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
        archive = Path(scratch) / "model.zip"
        digest = sha256()
        try:
            with requests.get(url, stream=True, timeout=_TIMEOUT) as response, archive.open("wb") as file:
                response.raise_for_status()
                for chunk in response.iter_content(1 << 16):
                    digest.update(chunk)
                    if file.tell() + len(chunk) > _MAX_BYTES:
                        msg = f"The archive at {url} is larger than {_MAX_BYTES >> 30} GiB; it was not unpacked."
                        raise ModelNotFoundError(msg)
                    file.write(chunk)
        except requests.RequestException as error:
            msg = (
                f"The model could not be downloaded from {url} ({type(error).__name__}). Put its files into {folder}, "
                "or set model_path."
            )
            raise ModelNotFoundError(msg, searched=[folder]) from error
        if checksum is not None and digest.hexdigest() != checksum.lower():
            msg = (
                f"The archive at {url} has the checksum {digest.hexdigest()}, not the one pinned; it was not unpacked."
            )
            raise ModelNotFoundError(msg)
        unpacked = _unpack(archive, Path(scratch) / "unpacked", folder.name)
        if not folder.exists():  # another process may have been faster
            shutil.move(str(unpacked), str(folder))


def _unpack(archive: Path, target: Path, name: str) -> Path:
    """Unpack the one folder that the archive must hold; nothing outside it, no links, no more than the limit."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [member for member in bundle.infolist() if not member.is_dir()]
            for member in members:
                parts = PurePosixPath(member.filename).parts
                if (
                    parts[0] != name
                    or ".." in parts
                    or "\\" in member.filename
                    or stat.S_ISLNK(member.external_attr >> 16)
                ):
                    msg = (
                        f"The archive holds {member.filename!r}, which is not a file of {name!r}; it was not unpacked."
                    )
                    raise ModelNotFoundError(msg)
            if sum(member.file_size for member in members) > _MAX_BYTES:
                msg = f"The archive unpacks to more than {_MAX_BYTES >> 30} GiB; it was not unpacked."
                raise ModelNotFoundError(msg)
            bundle.extractall(target, members)
    except zipfile.BadZipFile as error:
        msg = "What was downloaded is not a zip archive."
        raise ModelNotFoundError(msg) from error
    return target / name
