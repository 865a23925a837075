import hashlib
import io
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from langchain_rerankkit import FlashRankReranker, MissingExtraError, ModelNotFoundError
from langchain_rerankkit.inference.models import default_cache_dir
from langchain_rerankkit.testing import RerankerTests
from tests import models


class TestFlashRankReranker(RerankerTests):
    required_module = "tokenizers"
    tolerance = 2e-2  # bf16 where the processor has it

    @pytest.fixture(autouse=True)
    def _model(self, flashrank_folder, no_shared_models):
        self.folder = str(flashrank_folder)

    def make_reranker(self, **fields):
        return FlashRankReranker(model_path=self.folder, **fields)


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("budget", [64, 2048])
def test_scores_are_flashranks_own(tmp_path, labels, budget):
    import flashrank

    folder = models.save_flashrank(tmp_path / models.FLASHRANK_NAME, labels)
    texts = models.passages(40, seed=labels)
    theirs = flashrank.Ranker(folder.name, cache_dir=str(tmp_path), log_level="ERROR").rerank(
        flashrank.RerankRequest("which river", [{"id": n, "text": text} for n, text in enumerate(texts)])
    )
    expected = {passage["id"]: float(passage["score"]) for passage in theirs}
    for reranker in (
        FlashRankReranker(model=models.FLASHRANK_NAME, cache_dir=str(tmp_path), precision="fp32", batch_tokens=budget),
        FlashRankReranker(model_path=str(folder), precision="fp32", batch_tokens=budget),
    ):
        ranked = reranker.rank("which river", texts)
        assert {line.previous_rank - 1: line.score for line in ranked} == pytest.approx(expected, abs=1e-4)


def test_a_published_name_needs_flashrank_and_a_folder_does_not(flashrank_folder, monkeypatch):
    for module in ("flashrank", "flashrank.Config"):
        monkeypatch.setitem(sys.modules, module, None)
    assert FlashRankReranker(model_path=str(flashrank_folder)).rank("which river", ["a"])
    with pytest.raises(MissingExtraError, match=r"langchain-rerankkit\[flashrank\]"):
        FlashRankReranker().warmup()


def test_long_texts_in_chunks_on_a_backend_of_choice(flashrank_folder):
    fields = {"model_path": str(flashrank_folder), "precision": "fp32", "max_length": 32}
    text = "the river flows " * 40
    for backend, runtime in (("onnx", "onnxruntime fp32 CPU"), ("openvino", "openvino fp32 CPU")):
        (line,) = FlashRankReranker(backend=backend, long_documents="chunk", **fields).rank("which river", [text])
        assert line.details["backend"] == runtime
        assert line.details["chunks"] > 1
        start, stop = line.details["best_span"]
        (best,) = FlashRankReranker(backend=backend, **fields).rank("which river", [text[start:stop]])
        assert line.raw_score == pytest.approx(best.raw_score, abs=1e-4)
    with pytest.raises(ValueError, match="ONNX graphs"):
        FlashRankReranker(backend="torch")


def test_a_clients_own_settings_stay(flashrank_folder):
    import flashrank

    ranker = flashrank.Ranker(flashrank_folder.name, cache_dir=str(flashrank_folder.parent), log_level="ERROR")
    padding = ranker.tokenizer.padding
    FlashRankReranker(client=ranker).rank("which river", ["a", "the river flows"])
    assert ranker.tokenizer.padding == padding
    with pytest.raises(ValueError, match=r"flashrank\.Ranker"):
        FlashRankReranker(client=object())


def test_logging_is_left_alone(flashrank_folder):
    code = f"""
import logging
from langchain_rerankkit import FlashRankReranker
FlashRankReranker(model_path={str(flashrank_folder)!r}).rank("q", ["a"])
print(logging.getLogger().handlers, logging.getLogger().level)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[] 30"


class TestFiles:
    def test_the_cache_is_the_users(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
        assert default_cache_dir() == tmp_path / "rerankkit"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert not str(default_cache_dir()).startswith("/tmp")  # noqa: S108 - that is the point

    def test_a_missing_folder_and_missing_files(self, tmp_path, flashrank_folder):
        with pytest.raises(ModelNotFoundError, match=r"lacks \*\.onnx, config\.json") as caught:
            FlashRankReranker(model_path=str(tmp_path / "nowhere")).warmup()
        assert caught.value.searched == (str(tmp_path / "nowhere"),)
        partial = tmp_path / "partial"
        shutil.copytree(flashrank_folder, partial)
        (partial / "tokenizer.json").unlink()
        with pytest.raises(ModelNotFoundError) as caught:
            FlashRankReranker(model_path=str(partial)).warmup()
        assert caught.value.missing == ("tokenizer.json",)
        (partial / "other.onnx").write_bytes(b"")
        with pytest.raises(ModelNotFoundError, match="2 ONNX files"):
            FlashRankReranker(model_path=str(partial)).warmup()

    def test_an_unknown_model_names_the_known_ones(self):
        with pytest.raises(ModelNotFoundError, match="ms-marco-MiniLM-L-12-v2"):
            FlashRankReranker(model="ms-marco-unknown").warmup()

    @pytest.mark.parametrize("fields", [{"local_files_only": True}, {}])
    def test_offline_asks_nobody(self, tmp_path, fields):
        # Without the field it is HF_HUB_OFFLINE, which the tests set.
        with pytest.raises(ModelNotFoundError, match="switched off") as caught:
            FlashRankReranker(cache_dir=str(tmp_path), **fields).warmup()
        assert caught.value.missing == (models.FLASHRANK_FILE,)


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Serve bytes on loopback as the address that FlashRank downloads models from."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    content = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = content["body"]
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body) + content.get("missing", 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{{}}.zip"
        monkeypatch.setattr("flashrank.Config.model_url", address)

        def run(body, missing=0, **fields):
            content.update(body=body, missing=missing)
            return FlashRankReranker(model=models.FLASHRANK_NAME, cache_dir=str(tmp_path / "cache"), **fields)

        yield run
        server.shutdown()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, body in files.items():
            bundle.writestr(name, body)
    return buffer.getvalue()


@pytest.fixture
def archive(flashrank_folder):
    return zipped({f"{models.FLASHRANK_NAME}/{path.name}": path.read_bytes() for path in flashrank_folder.iterdir()})


class TestDownload:
    def test_a_model_is_downloaded_once(self, serve, archive, tmp_path):
        assert len(serve(archive).rank("which river", ["a", "b"])) == 2
        assert len(serve(b"").rank("which river", ["a", "b"])) == 2
        assert [path.name for path in (tmp_path / "cache").iterdir()] == [models.FLASHRANK_NAME]

    def test_a_pinned_checksum(self, serve, archive):
        digest = hashlib.sha256(archive).hexdigest()
        with pytest.raises(ModelNotFoundError, match=digest):
            serve(archive, sha256="0" * 64).warmup()
        serve(archive, sha256=digest.upper()).warmup()

    @pytest.mark.parametrize("name", ["../evil", "/evil", "other/evil", "ms-marco-TinyBERT-L-2-v2/../../evil"])
    def test_a_path_that_leads_out_is_refused(self, serve, tmp_path, name):
        with pytest.raises(ModelNotFoundError, match="not unpacked"):
            serve(zipped({name: b"x"})).warmup()
        assert not list(tmp_path.rglob("evil"))

    def test_a_link_is_refused(self, serve):
        link = zipfile.ZipInfo(f"{models.FLASHRANK_NAME}/link")
        link.external_attr = 0xA1FF << 16
        with pytest.raises(ModelNotFoundError, match="not unpacked"):
            serve(zipped({link: b"/etc/passwd"})).warmup()

    @pytest.mark.parametrize("missing", [0, 1000])
    def test_a_failed_download_leaves_nothing(self, serve, archive, tmp_path, missing):
        body = archive[:-1000] if missing else b""
        with pytest.raises(ModelNotFoundError):
            serve(body, missing).warmup()
        with pytest.raises(ModelNotFoundError, match="not a zip archive"):
            serve(b"<html>").warmup()
        assert list((tmp_path / "cache").iterdir()) == []
        serve(archive).warmup()

    def test_too_large_is_refused(self, serve, archive, monkeypatch):
        monkeypatch.setattr("langchain_rerankkit.rerankers.flashrank._MAX_BYTES", 1000)
        with pytest.raises(ModelNotFoundError, match="larger than"):
            serve(archive).warmup()
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr(f"{models.FLASHRANK_NAME}/x", b"0" * 100_000)
        with pytest.raises(ModelNotFoundError, match="unpacks to more"):
            serve(bomb.getvalue()).warmup()
