import json
import shutil
import subprocess
import sys

import pytest

from langchain_rerankkit import CrossEncoderReranker, ModelNotFoundError
from langchain_rerankkit.cli import main
from langchain_rerankkit.inference.export import export
from langchain_rerankkit.inference.models import MANIFEST, choose_graph, find_model, prefetch

SENTENCE_TRANSFORMERS = [
    "config.json",
    "model.safetensors",
    "onnx/model.onnx",
    "onnx/model_O3.onnx",
    "onnx/model_O4.onnx",
    "onnx/model_qint8_avx512_vnni.onnx",
    "onnx/model_quint8_avx2.onnx",
    "openvino/openvino_model.bin",
    "openvino/openvino_model.xml",
    "openvino/openvino_model_qint8_quantized.xml",
]
OTHERS = ["onnx/model_bnb4.onnx", "onnx/model_fp16.onnx", "onnx/model_q4.onnx", "onnx/model_quantized.onnx"]


@pytest.mark.parametrize(
    ("names", "formats", "precision", "file_name", "expected"),
    [
        (SENTENCE_TRANSFORMERS, ["onnx"], "auto", None, "onnx/model.onnx"),
        (SENTENCE_TRANSFORMERS, ["openvino", "onnx"], "auto", None, "openvino/openvino_model.xml"),
        (SENTENCE_TRANSFORMERS, ["onnx"], "int8", None, "onnx/model_quint8_avx2.onnx"),
        (SENTENCE_TRANSFORMERS, ["onnx"], "fp16", None, None),
        (SENTENCE_TRANSFORMERS, ["openvino"], "fp16", None, "openvino/openvino_model.xml"),
        (SENTENCE_TRANSFORMERS, ["onnx"], "auto", "model_O3.onnx", "onnx/model_O3.onnx"),
        (SENTENCE_TRANSFORMERS, ["onnx"], "auto", "../secret.onnx", None),
        ([*OTHERS, "onnx/model.onnx"], ["onnx"], "fp32", None, "onnx/model.onnx"),
        (OTHERS, ["onnx"], "fp32", None, None),
        (OTHERS, ["onnx"], "auto", None, "onnx/model_fp16.onnx"),
        (
            ["flashrank-MiniLM-L-12-v2_Q.onnx", "tokenizer.json"],
            ["onnx"],
            "auto",
            None,
            "flashrank-MiniLM-L-12-v2_Q.onnx",
        ),
        (["model.onnx", "deep/er/model.onnx"], ["onnx"], "auto", None, "model.onnx"),
        (["model.safetensors"], ["onnx", "openvino"], "auto", None, None),
    ],
)
def test_which_graph_is_taken(names, formats, precision, file_name, expected):
    assert choose_graph(names, formats, precision, file_name) == expected


@pytest.fixture
def graph_folder(every_format_folder, tmp_path):
    folder = tmp_path / "graph"
    for name in ("onnx/model.onnx", "onnx/model_int8.onnx", "tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(every_format_folder / name, folder / name)
    return folder


def scores(model, **fields):
    ranked = CrossEncoderReranker(model=str(model), **fields).rank("river city", ["bread", "the river", "a city"])
    return {line.document.page_content: line.raw_score for line in ranked}


def test_prefetched_files_are_checked(graph_folder, tmp_path, capsys):
    target = tmp_path / "fetched"
    assert main(["prefetch", str(graph_folder), str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target / MANIFEST)
    manifest = json.loads((target / MANIFEST).read_text())
    assert sorted(manifest["files"]) == ["config.json", "onnx/model.onnx", "tokenizer.json", "tokenizer_config.json"]
    assert str(tmp_path) not in json.dumps(manifest)
    assert scores(target) == scores(graph_folder)
    for name in manifest["files"]:
        content = (target / name).read_bytes()
        (target / name).write_bytes(content + b" ")
        with pytest.raises(ModelNotFoundError, match="is not the file that"):
            scores(target)
        (target / name).write_bytes(content)
    shutil.copy(graph_folder / "onnx/model_int8.onnx", target / "onnx")
    with pytest.raises(ModelNotFoundError, match="is not the file that"):  # not listed
        scores(target, backend="onnx", precision="int8")


def test_weights_of_a_large_model_lie_beside_the_graph(every_format_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("langchain_rerankkit.inference.export._LARGE", 1000)
    source, target = tmp_path / "source", tmp_path / "fetched"
    for _ in range(2):  # the second time over the first
        export(str(every_format_folder), source, precisions=["fp32", "fp16", "int8"])
    files = {path.name: path.stat().st_size for path in (source / "onnx").iterdir()}
    assert set(files) == {
        *("model.onnx", "model.onnx_data", "model_fp16.onnx", "model_fp16.onnx_data", "model_int8.onnx"),
    }
    assert files["model.onnx_data"] < (every_format_folder / "onnx" / "model.onnx").stat().st_size
    prefetch(str(source), target)
    for backend in ("onnx", "openvino"):
        expected = scores(every_format_folder, backend=backend, precision="fp32")
        assert scores(target, backend=backend, precision="fp32") == pytest.approx(expected, abs=1e-6)
        for precision in ("fp16", "int8"):
            expected = scores(every_format_folder, backend=backend, precision=precision)
            assert scores(source, backend=backend, precision=precision) == pytest.approx(expected, abs=1e-5)
    with (target / "onnx" / "model.onnx_data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelNotFoundError, match="onnx_data is not the file that"):
        scores(target)


def test_prefetch_for_torch_takes_safetensors(every_format_folder, tmp_path, no_shared_models):
    source = tmp_path / "source"
    shutil.copytree(every_format_folder, source)
    (source / "1_Part").mkdir()
    (source / "1_Part" / "config.json").write_text("{}")
    prefetch(str(source), tmp_path / "fetched", formats=())
    names = {path.relative_to(tmp_path / "fetched").as_posix() for path in (tmp_path / "fetched").rglob("*.*")}
    assert {"model.safetensors", "config.json", MANIFEST} <= names
    assert not [name for name in names if name.endswith((".onnx", ".bin", ".pkl"))]
    assert scores(tmp_path / "fetched", backend="torch", device="cpu") == pytest.approx(
        scores(every_format_folder, backend="torch", device="cpu"), abs=1e-5
    )
    for name in ("1_Part/config.json", "model.safetensors"):
        content = (tmp_path / "fetched" / name).read_bytes()
        (tmp_path / "fetched" / name).write_bytes(b"another")
        with pytest.raises(ModelNotFoundError, match="is not the file that"):
            scores(tmp_path / "fetched", backend="torch", device="cpu")
        (tmp_path / "fetched" / name).write_bytes(content)


def test_the_cache_of_the_hub_is_read_offline(graph_folder, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "cache" / "models--some--model"
    shutil.copytree(graph_folder, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr("socket.socket.connect", None)
    fields = {"cache_dir": str(tmp_path / "cache")}
    assert scores("some/model", local_files_only=True, **fields) == scores(graph_folder)
    files = find_model("some/model", formats=["onnx"], **fields)  # HF_HUB_OFFLINE is set in tests
    assert files.revision == commit
    with pytest.raises(ModelNotFoundError, match=r"not in the cache .*rerankkit prefetch some/other FOLDER") as caught:
        scores("some/other", **fields)
    assert caught.value.searched == (str(tmp_path / "cache"),)
    assert "tokenizer.json" in caught.value.missing


def test_offline_never_touches_the_network(tmp_path):
    code = """
import os, socket, sys
def refuse(*arguments, **options):
    raise SystemExit("the network was used")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from langchain_rerankkit import CrossEncoderReranker, ModelNotFoundError
try:
    CrossEncoderReranker(model="some/model", backend=sys.argv[1], local_files_only=len(sys.argv) > 2).warmup()
except ModelNotFoundError as error:
    print(error)
"""
    import os

    for arguments, offline in ((["onnx"], "1"), (["torch"], "1"), (["onnx", "x"], "0")):
        environment = {**os.environ, "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path)}
        output = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
        ).stdout
        assert "some/model" in output


def test_what_is_missing_is_said(graph_folder, every_format_folder, tmp_path):
    with pytest.raises(ModelNotFoundError, match="There is no folder"):
        scores("/no/such/folder", backend="onnx")
    with pytest.raises(ModelNotFoundError, match=r"no graph .*rerankkit export") as caught:
        scores(graph_folder, backend="openvino", file_name="openvino_model.xml")
    assert caught.value.searched == (str(graph_folder),)
    (graph_folder / "onnx/model_int8.onnx").unlink()
    with pytest.raises(ModelNotFoundError, match=r"precision int8.*rerankkit export MODEL FOLDER --precision int8"):
        scores(graph_folder, precision="int8")
    (graph_folder / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"lacks tokenizer.json"):
        scores(graph_folder)
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(every_format_folder / name, weights)
    with pytest.raises(ModelNotFoundError, match="has no graph"):
        scores(weights, backend="onnx")
    assert "torch" in repr(CrossEncoderReranker(model=str(weights), device="cpu").warmup())


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_file_that_is_no_graph(graph_folder, backend):
    (graph_folder / "onnx" / "model.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ModelNotFoundError, match="cannot load"):
        scores(graph_folder, backend=backend)


def test_a_graph_lies_in_its_folder(graph_folder):
    """A name that climbs out of the folder is not followed."""
    (graph_folder.parent / "outside.onnx").write_bytes((graph_folder / "onnx/model.onnx").read_bytes())
    with pytest.raises(ModelNotFoundError, match="has no graph"):
        find_model(str(graph_folder), formats=["onnx"], file_name="../outside.onnx")
