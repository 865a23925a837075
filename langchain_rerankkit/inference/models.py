"""Where the files of a model come from: a folder, the model hub, its cache; and whether they are the ones expected."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MANIFEST",
    "Format",
    "ModelFiles",
    "Precision",
    "choose_graph",
    "default_cache_dir",
    "find_model",
    "is_offline",
    "prefetch",
    "snapshot",
]

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Format = Literal["onnx", "openvino"]

MANIFEST = "rerankkit-manifest.json"
"""Beside a model's files: where they are from, and the SHA-256 of each."""

# What sentence-transformers reads of a model: weights that are no pickles, settings, vocabularies, templates.
_TORCH_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.metadata")
_SETTINGS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")
_INT8 = re.compile(r"q?u?int8|quantized|_q$", re.IGNORECASE)
_FP16 = re.compile(r"fp16|float16", re.IGNORECASE)
_OTHER = re.compile(r"q4|q2|bnb4|u?int4|_o[1-4]$", re.IGNORECASE)  # four bits, and graphs optimised for one machine


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model on this machine.

    Attributes:
        name: The name or folder asked for.
        folder: Where the files lie.
        graph: The ONNX graph or OpenVINO model; None where there is none.
        revision: The commit, for a model of the hub.
    """

    name: str
    folder: Path
    graph: Path | None
    revision: str | None = None

    @property
    def weights(self) -> Literal["fp32", "fp16", "int8"]:
        """How the graph holds its weights, by the name of its file."""
        stem = "" if self.graph is None else self.graph.stem
        return "int8" if _INT8.search(stem) else "fp16" if _FP16.search(stem) else "fp32"

    @property
    def changed(self) -> int:
        """When a file last changed, in nanoseconds: a model that was loaded before is another one."""
        return max(((self.folder / name).stat().st_mtime_ns for name in _listing(self.folder)), default=0)

    def read(self, name: str, *, required: bool = False) -> bytes | None:
        """The content of a file, checked against the manifest where the folder has one.

        Raises:
            ModelNotFoundError: If it is missing and ``required``, or is not the one of the manifest.
        """
        path = self.folder / name
        if not path.is_file():
            if not required:
                return None
            msg = f"The model folder {self.folder} lacks {name}."
            raise ModelNotFoundError(msg, missing=[name], searched=[self.folder])
        self.check([name])
        return path.read_bytes()

    def settings(self, name: str) -> dict[str, Any]:
        """A JSON file, empty where there is none."""
        content = self.read(name)
        try:
            settings = json.loads(content or b"{}")
        except ValueError as error:
            msg = f"{self.folder / name} is not JSON: {error}"
            raise ModelNotFoundError(msg, searched=[self.folder]) from error
        return settings if isinstance(settings, dict) else {}

    def check(self, names: Iterable[str]) -> None:
        """Compare files with the manifest, where the folder has one.

        Raises:
            ModelNotFoundError: If a file is not in it, or differs.
        """
        manifest = self.folder / MANIFEST
        if not manifest.is_file():
            return
        try:
            checksums = dict(json.loads(manifest.read_bytes())["files"])
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{manifest} is not a manifest of rerankkit prefetch: write it again."
            raise ModelNotFoundError(msg, searched=[self.folder]) from error
        for name in names:
            if checksums.get(name) != _checksum(self.folder / name):
                msg = (
                    f"{self.folder / name} is not the file that {MANIFEST} lists. Fetch the model again with "
                    "rerankkit prefetch, or, if you changed the file on purpose, delete the manifest."
                )
                raise ModelNotFoundError(msg, searched=[self.folder])

    def check_graph(self) -> None:
        """Compare the graph, and weights outside of it, with the manifest."""
        if self.graph is not None:
            self.check(
                path.relative_to(self.folder).as_posix()
                for path in self.graph.parent.iterdir()
                if _belongs(path.name, self.graph.name)
            )

    def check_weights(self) -> None:
        """Compare what torch reads with the manifest."""
        self.check(_for_torch(_listing(self.folder)))


def find_model(
    model: str,
    *,
    formats: Sequence[Format],
    precision: Precision = "auto",
    file_name: str | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
) -> ModelFiles:
    """Find a model in a folder or on the hub, and bring the files that are needed, no others.

    Args:
        model: A folder, or a name on the hub.
        formats: Formats of the graph that can be run, the preferred one first.
        precision: What the graph shall be able to do: see `choose_graph`.
        file_name: The graph to take.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never use the network; also switched on by ``HF_HUB_OFFLINE``.

    Raises:
        ModelNotFoundError: If there is no such model, or no such file in it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return ModelFiles(model, folder, _chosen(_listing(folder), folder, formats, precision, file_name))
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or model.startswith("."):
        msg = f"There is no folder {model!r}, and it is not a name on the model hub either."
        raise ModelNotFoundError(msg, searched=[model])
    hub = require("huggingface_hub", extra="onnx")
    if local_files_only or is_offline():
        folder = _cached(hub, model, revision, cache_dir, "local_files_only" if local_files_only else "HF_HUB_OFFLINE")
    else:
        try:
            info = hub.HfApi().model_info(model, revision=revision)
            names = [file.rfilename for file in info.siblings or []]
            graph = choose_graph(names, formats, precision, file_name)
            wanted = [name for name in names if name in _SETTINGS or (graph and _is_part(name, graph))]
            # By the revision's name, not its commit: only then the cache remembers what "main" was when the hub is gone.
            folder = Path(hub.snapshot_download(model, revision=revision, cache_dir=cache_dir, allow_patterns=wanted))
        except Exception as error:  # noqa: BLE001 - a network that is down: the cache may have the model
            folder = _cached(hub, model, revision, cache_dir, type(error).__name__, error)
    graph_path = _chosen(_listing(folder), folder, formats, precision, file_name)
    return ModelFiles(model, folder, graph_path, folder.name)


def choose_graph(
    names: Iterable[str], formats: Sequence[Format], precision: Precision = "auto", file_name: str | None = None
) -> str | None:
    """Choose one graph among the files of a model.

    Understands the layouts of sentence-transformers and optimum (``onnx/model*.onnx``, ``openvino/*.xml``) and of
    FlashRank (one ``*.onnx`` beside ``tokenizer.json``). A graph's weights are told by its name: ``model_int8.onnx``,
    ``model_quantized.onnx``, ``model_fp16.onnx``. Four-bit graphs and those optimised for one machine
    (``model_O3.onnx``) are taken by ``file_name`` only.

    Args:
        names: Paths relative to the model's folder, with slashes.
        formats: Formats that can be run, the preferred one first.
        precision: ``"int8"`` and ``"fp16"`` want such weights (OpenVINO computes in fp16 from any); all others want
            full ones, and ``"auto"`` takes what there is where there are none.
        file_name: The graph to take, with or without its folder.

    Returns:
        The path, or None where nothing fits.
    """
    endings: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}
    paths = [PurePosixPath(name) for name in names]
    for kind in formats:
        graphs = sorted(
            path
            for path in paths
            if path.suffix == endings[kind] and path.parent.as_posix() in {".", "onnx", "openvino"}
        )
        if file_name is not None:
            graphs = [path for path in graphs if file_name in {path.name, path.as_posix()}]
        else:
            graphs = [path for path in graphs if not _OTHER.search(path.stem)]
        full = [path for path in graphs if not _INT8.search(path.stem) and not _FP16.search(path.stem)]
        eights = [path for path in graphs if _INT8.search(path.stem)]
        halves = [path for path in graphs if _FP16.search(path.stem)]
        if precision == "int8":
            fitting = eights
        elif precision == "fp16":
            fitting = halves or (full if kind == "openvino" else [])
        else:
            fitting = full or ((halves or eights) if precision == "auto" else [])
        if file_name is not None:
            fitting = graphs
        if fitting:
            # model.onnx before model_something.onnx
            return min(fitting, key=lambda path: (len(path.stem), path.as_posix())).as_posix()
    return None


def prefetch(
    model: str,
    folder: str | Path,
    *,
    formats: Sequence[Format] = ("onnx", "openvino"),
    precision: Precision = "auto",
    file_name: str | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> Path:
    """Put a model's files into a folder, with a manifest that loading checks: for machines without a network.

    Args:
        model: A folder, or a name on the hub.
        folder: Where to; made if needed.
        formats: See `find_model`. With none, the weights for torch are taken (``*.safetensors``, never pickles).
        precision: See `choose_graph`.
        file_name: The graph to take.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.

    Returns:
        The manifest's path.

    Raises:
        ModelNotFoundError: If the model is not found, or has no file of that kind.
    """
    source = Path(model).expanduser()
    commit = None
    if not source.is_dir():
        hub = require("huggingface_hub", extra="onnx")
        if formats:
            found = find_model(
                model, formats=formats, precision=precision, file_name=file_name, revision=revision, cache_dir=cache_dir
            )
            source, commit = found.folder, found.revision
        else:
            try:
                source = snapshot(model, revision, cache_dir)
            except Exception as error:
                msg = f"The model {model!r} could not be fetched: {error}"
                raise ModelNotFoundError(msg, searched=[cache_dir or hub.constants.HF_HUB_CACHE]) from error
            commit = source.name
    names = _listing(source)
    if formats:
        graph = choose_graph(names, formats, precision, file_name)
        if graph is None:
            raise _no_graph(source, formats, precision, file_name)
        wanted = [name for name in names if name in _SETTINGS or _is_part(name, graph)]
    else:
        wanted = _for_torch(names)
    target = Path(folder).expanduser()
    ModelFiles(model, source, None).check(wanted)
    for name in wanted:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (target / name).resolve() != (source / name).resolve():
            shutil.copyfile(source / name, target / name)
    manifest = {
        "model": model if commit else None,  # a path says something about a machine, not about the model
        "revision": commit,
        "files": {name: _checksum(target / name) for name in sorted(wanted)},
    }
    path = target / MANIFEST
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return path


def is_offline() -> bool:
    """Whether the environment forbids the model hub."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.lower() in {"1", "true", "yes", "on"}


def default_cache_dir() -> Path:
    """The platform's cache folder, never a temporary one."""
    if os.name == "nt":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "rerankkit"


def _cached(  # noqa: PLR0917 - the first four say one thing: where
    hub: Any, model: str, revision: str | None, cache_dir: str | None, why: str, cause: Exception | None = None
) -> Path:
    """The folder of a model in the hub's cache, whoever put it there and however many of its files."""
    for name in ("config.json", "tokenizer.json"):
        path = hub.try_to_load_from_cache(model, name, cache_dir=cache_dir, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    place = cache_dir or hub.constants.HF_HUB_CACHE
    msg = (
        f"The model {model!r} could not be loaded: it is not in the cache {place}, and nothing can be fetched ({why}). "
        f"Give an existing folder, or fetch the model where there is a network: rerankkit prefetch {model} FOLDER."
    )
    raise ModelNotFoundError(msg, missing=["config.json", "tokenizer.json"], searched=[place]) from cause


def _chosen(
    names: list[str], folder: Path, formats: Sequence[Format], precision: Precision, file_name: str | None
) -> Path | None:
    graph = choose_graph(names, formats, precision, file_name)
    if graph is None and (file_name is not None or precision == "int8"):
        raise _no_graph(folder, formats, precision, file_name)
    return None if graph is None else folder / graph


def _no_graph(
    folder: Path, formats: Sequence[Format], precision: Precision, file_name: str | None
) -> ModelNotFoundError:
    what = file_name or " or ".join({"onnx": "onnx/model.onnx", "openvino": "openvino/*.xml"}[f] for f in formats)
    suffix = f" of precision {precision}" if precision != "auto" and file_name is None else ""
    option = f" --precision {precision}" if precision in {"int8", "fp16"} else ""
    msg = f"{folder} has no graph {what}{suffix}. Make one where torch is installed: rerankkit export MODEL FOLDER{option}."
    return ModelNotFoundError(msg, missing=[what], searched=[folder])


def snapshot(
    model: str, revision: str | None, cache_dir: str | None, *, local_files_only: bool = False, code: bool = False
) -> Path:
    """What torch reads of a model of the hub, as a folder of the cache, and the code that comes with it where trusted."""
    return Path(
        require("huggingface_hub", extra="onnx").snapshot_download(
            model,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=[*_TORCH_FILES, *(["*.py"] if code else [])],
            ignore_patterns=["onnx/*", "openvino/*"],
            local_files_only=local_files_only or is_offline(),
        )
    )


def _listing(folder: Path) -> list[str]:
    """Files of a model's folder and of its direct sub-folders."""
    paths = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _for_torch(names: Iterable[str]) -> list[str]:
    """The names of `_TORCH_FILES` among others."""
    endings = {PurePosixPath(pattern).suffix for pattern in _TORCH_FILES}
    return [
        name
        for name in names
        if PurePosixPath(name).suffix in endings and not name.startswith(("onnx/", "openvino/")) and name != MANIFEST
    ]


def _is_part(name: str, graph: str) -> bool:
    one, other = PurePosixPath(name), PurePosixPath(graph)
    return one.parent == other.parent and _belongs(one.name, other.name)


def _belongs(name: str, graph: str) -> bool:
    """Whether a file is the graph or holds its weights: model.onnx_data, model.onnx.data; openvino_model.bin."""
    stem, _, ending = graph.rpartition(".")
    return (
        name == graph
        or name.startswith((f"{graph}_data", f"{graph}.data"))
        or (ending == "xml" and name == f"{stem}.bin")
    )


def _checksum(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
