"""Loading by name, from a hub of our own on this machine that speaks the real one's protocol."""

import json
import os
import subprocess
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(every_format_folder):
    """Address of the hub, and the files that were asked of it."""
    files = {
        path.relative_to(every_format_folder).as_posix(): path.read_bytes()
        for path in every_format_folder.rglob("*")
        if path.is_file()
    }
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET(body=False)

        def do_GET(self, *, body=True):
            path = self.path.partition("?")[0]
            headers, status = {"X-Repo-Commit": COMMIT}, 200
            if path.startswith("/api/models/some/model"):
                if "/tree/" in path:
                    answer = [
                        {"type": "file", "path": name, "size": len(data), "oid": sha256(data).hexdigest()}
                        for name, data in files.items()
                    ]
                else:
                    answer = {"id": "some/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                content = json.dumps(answer).encode()
                headers["Content-Type"] = "application/json"
            else:
                name = path.partition(f"/resolve/{COMMIT}/")[2]
                content = files.get(name, b"")
                status = 200 if name in files else 404
                headers["ETag"] = f'"{sha256(content).hexdigest()}"'
                if body and name in files:
                    asked.append(name)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def run(address, home, *arguments, code=None, offline="0"):
    environment = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": offline,
        "HF_HUB_DISABLE_XET": "1",
    }
    command = ["-c", code, *arguments] if code else ["-m", "langchain_rerankkit", *arguments]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


RANK = """
import sys
from langchain_rerankkit import CrossEncoderReranker
print([line.document.page_content for line in CrossEncoderReranker(model=sys.argv[1], backend="onnx").rank("river", ["a city", "bread"])])
"""


def test_a_model_of_the_hub(hub, tmp_path, every_format_folder):
    address, asked = hub
    online = run(address, tmp_path / "home", "some/model", code=RANK)
    assert sorted(asked) == ["config.json", "onnx/model.onnx", "tokenizer.json", "tokenizer_config.json"]  # no others
    # The hub is gone: the cache serves, whether or not the network is said to be off.
    for offline in ("0", "1"):
        assert run("http://127.0.0.1:9", tmp_path / "home", "some/model", code=RANK, offline=offline) == online
    assert run(address, tmp_path / "home", str(every_format_folder), code=RANK) == online


def test_prefetch_pins_the_commit(hub, tmp_path):
    address, _ = hub
    target = tmp_path / "model"
    run(address, tmp_path / "home", "prefetch", "some/model", str(target), "--precision", "int8")
    manifest = json.loads((target / "rerankkit-manifest.json").read_text())
    assert manifest["model"] == "some/model"
    assert manifest["revision"] == COMMIT
    assert (
        manifest["files"]["onnx/model_int8.onnx"] == sha256((target / "onnx/model_int8.onnx").read_bytes()).hexdigest()
    )
    assert run("http://127.0.0.1:9", tmp_path / "empty", str(target), code=RANK, offline="1")
