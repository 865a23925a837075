"""Reranking by FlashRank's small ONNX cross-encoders."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, model_validator
from typing_extensions import Self, override

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.cross_encoders import load_cross_encoder
from langchain_rerankkit.inference.models import default_cache_dir, is_offline
from langchain_rerankkit.inference.onnx import Graph
from langchain_rerankkit.inference.pairs import GraphPairs, PairModel
from langchain_rerankkit.inference.shared import shared
from langchain_rerankkit.inference.tokens import Tokenizer
from langchain_rerankkit.rerankers.local import LocalReranker

__all__ = ["FlashRankReranker"]

_NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")
_MAX_BYTES = 2 << 30  # the largest published model is a few hundred megabytes
_TIMEOUT = 30.0  # seconds without a byte


class FlashRankReranker(LocalReranker):
    """Reranks with a model of FlashRank: a cross-encoder as an ONNX file, with no torch.

    Takes FlashRank's models and runs them as all local cross-encoders are run here: in batches of similar length within
    a token budget and on the fastest backend, where ``Ranker.rerank`` pads all passages to the longest in a single pass.
    In full precision, scores are the same.

    A model is downloaded at first use into ``cache_dir``, or read from ``model_path``. Nothing configures logging and
    nothing is written to ``/tmp``.
    """

    model: str = "ms-marco-TinyBERT-L-2-v2"
    """Name of a published FlashRank model."""

    model_path: str | None = None
    """Folder of a model of your own instead: one ``*.onnx`` file beside ``tokenizer.json`` and its configuration."""

    cache_dir: str | None = None
    """Folder for downloaded models; by default ``rerankkit/flashrank`` in the user's cache folder."""

    sha256: str | None = None
    """Expected checksum of the downloaded archive. FlashRank publishes none: pin the one you have examined."""

    max_length: int | None = Field(default=512, ge=8)
    """Longest pair in tokens, as far as the model allows."""

    client: Any = Field(default=None, exclude=True, repr=False)
    """A ready ``flashrank.Ranker`` (cross-encoders only): its own session is used."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.client is not None and getattr(self.client, "session", None) is None:
            msg = "The client must be a flashrank.Ranker of a cross-encoder model."
            raise ValueError(msg)
        if self.backend == "torch":
            msg = "Models of FlashRank are ONNX graphs: use backend='onnx' or 'openvino'."
            raise ValueError(msg)
        return self

    @override
    def _label(self) -> str:
        return Path(self.model_path).name if self.model_path else self.model

    @override
    def _load(self) -> PairModel:
        if self.client is not None:
            return shared(("client", id(self.client)), lambda: _RankersPairs(self.client))
        folder, file = self._files()
        return load_cross_encoder(
            str(folder),
            backend=self.backend,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
            file_name=file.name,
        )

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


class _RankersPairs(GraphPairs):
    """The tokenizer and the session of a ``flashrank.Ranker``."""

    def __init__(self, ranker: Any) -> None:
        ort = require("onnxruntime", extra="flashrank")
        session, tokenizer = ranker.session, ranker.tokenizer
        inputs = frozenset(tensor.name for tensor in session.get_inputs())
        options = ort.RunOptions()
        if session.get_session_options().enable_cpu_mem_arena:
            # Its memory goes back after each pass, and does not stay at the largest batch ever seen.
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

        def run(feed: dict[str, Any]) -> Any:
            return session.run(None, {name: array for name, array in feed.items() if name in inputs}, options)[0]

        super().__init__(
            Tokenizer(tokenizer.to_str()),
            Graph(run, "onnxruntime CPU", inputs, batch_tokens=512),
            pad_id=(tokenizer.padding or {}).get("pad_id", 0),
            max_length=(tokenizer.truncation or {}).get("max_length", 512),
        )
        self.ranker = ranker  # held, so that its id, by which this is shared, stays its own


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
