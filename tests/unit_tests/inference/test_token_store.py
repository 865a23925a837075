import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from langchain_rerankkit.errors import IndexFormatError
from langchain_rerankkit.inference.token_store import TokenStore
from langchain_rerankkit.inference.token_vectors import TokenVectors, compress

PROJECT = Path(__file__).parents[3]
DIMENSIONS = 8


def vectors_of(text):
    """Vectors that the text alone determines, as an encoder's."""
    rng = np.random.default_rng(list(text.encode()))
    tokens = int(rng.integers(0, 40))
    values = rng.normal(size=(tokens, DIMENSIONS)).astype(np.float32)
    return TokenVectors(values, chunks=1 + tokens // 20, truncated=bool(tokens % 2))


def same(one, other):
    return (
        (one.chunks, one.truncated) == (other.chunks, other.truncated)
        and np.array_equal(one.values, other.values)
        and ((one.scales is None and other.scales is None) or np.array_equal(one.scales, other.scales))
    )


def right(store, texts):
    """How many of the texts are kept, after seeing that each of those is as computed afresh."""
    found = store.get(texts)
    assert all(same(vectors, compress(vectors_of(text), store.kind)) for text, vectors in found.items())
    return len(found)


def fill(store, texts):
    return store.put({text: vectors_of(text) for text in texts})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "with blank, # and ?" / "store"


def open_store(folder, kind="int8", encoder="a", dimensions=DIMENSIONS):
    return TokenStore(folder, encoder, dimensions, kind)


TEXTS = [f"text {number}" for number in range(1200)]  # more than SQLite takes parameters at once


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_what_is_put_is_got_by_this_and_later_stores(folder, kind):
    store = open_store(folder, kind)
    assert store.get(TEXTS) == {}
    assert len(store) == 0
    assert not folder.exists()  # until there is something to keep
    put = fill(store, TEXTS[:900])
    fill(store, ["", "\U0001f600"])
    for reader in (store, open_store(folder, kind)):
        found = reader.get(TEXTS)
        assert found.keys() == put.keys() == set(TEXTS[:900])
        assert all(same(found[text], put[text]) for text in put)
        assert right(reader, [*TEXTS, "", "\U0001f600"]) == len(reader) == 902


def test_readers_see_what_others_add(folder):
    reader = open_store(folder)
    writer = open_store(folder)
    for start in range(0, 300, 100):
        fill(writer, TEXTS[start : start + 100])
        assert right(reader, TEXTS) == start + 100


def test_putting_again_replaces(folder):
    store = open_store(folder)
    store.put({"a": vectors_of("b")})
    fill(store, ["a"])
    assert right(store, ["a"]) == len(store) == 1


def test_what_is_not_finite_is_not_kept(folder):
    broken = TokenVectors(np.full((2, DIMENSIONS), np.nan, np.float32))
    store = open_store(folder)
    put = store.put({"a": broken, "b": vectors_of("b")})
    assert np.isnan(put["a"].scales).all()
    assert store.get(["a", "b"]).keys() == {"b"}


@pytest.mark.parametrize("other", [{"encoder": "b"}, {"kind": "fp16"}, {"dimensions": 9}])
def test_the_index_of_another_encoder_is_refused(folder, other):
    fill(open_store(folder), ["a"])
    with pytest.raises(IndexFormatError, match=r"another encoder or release .* Delete it"):
        open_store(folder, **other)


def test_a_damaged_index_is_said_to_be(folder):
    fill(open_store(folder), TEXTS)
    index = folder / "index.sqlite"
    index.write_bytes(b"no database" * 100)
    with pytest.raises(IndexFormatError, match=r"is damaged .* Delete"):
        open_store(folder)


def test_damage_anywhere_never_gives_wrong_vectors(folder, caplog):
    fill(open_store(folder), TEXTS[:60])
    files = {path: path.read_bytes() for path in folder.iterdir()}
    assert {path.name for path in files} == {"index.sqlite", "vectors.bin"}
    choose = random.Random(0)
    missing = refused = 0
    for _ in range(60):
        path = choose.choice(sorted(files))
        content = bytearray(files[path])
        place = choose.randrange(len(content))
        kind = choose.choice(["flip", "zero", "cut", "garbage"])
        if kind == "flip":
            content[place] ^= 1 << choose.randrange(8)
        elif kind == "zero":
            content[place : place + 500] = bytes(len(content[place : place + 500]))
        elif kind == "cut":
            content = content[:place]
        else:
            content[place : place + 16] = choose.randbytes(len(content[place : place + 16]))
        path.write_bytes(content)
        try:
            store = open_store(folder)
            if right(store, TEXTS[:60]) < 60:
                missing += 1
                fill(store, TEXTS[:60])  # encoded again
                assert right(store, TEXTS[:60]) == 60
        except (IndexFormatError, OSError):  # SQLite has two words for it
            refused += 1
        for other, original in files.items():
            other.write_bytes(original)
    assert missing > 9
    assert refused > 3
    assert "damaged token vectors" in caplog.text


def test_a_torn_tail_is_overwritten(folder):
    store = open_store(folder)
    fill(store, TEXTS[:10])
    end = (folder / "vectors.bin").stat().st_size
    with (folder / "vectors.bin").open("ab") as file:
        file.write(b"half of a record")
    fill(open_store(folder), TEXTS[10:11])
    assert right(store, TEXTS) == 11
    assert (folder / "vectors.bin").stat().st_size < end + 64 + 40 * (DIMENSIONS + 4)


def test_without_its_data_an_index_serves_nothing_and_is_filled_again(folder):
    store = open_store(folder)
    fill(store, TEXTS[:10])
    (folder / "vectors.bin").unlink()
    assert right(open_store(folder), TEXTS) == 0
    fill(store, TEXTS[:10])
    assert right(store, TEXTS) == 10


def test_a_deleted_folder_is_made_again_though_a_store_is_open(folder):
    store = open_store(folder)
    fill(store, TEXTS[:10])
    assert right(store, TEXTS) == 10
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert right(store, TEXTS) == 0
    fill(open_store(folder), TEXTS[5:20])
    assert right(store, TEXTS) == 15


def test_a_closed_store_opens_again(folder):
    store = open_store(folder)
    fill(store, ["a"])
    assert right(store, ["a"]) == 1
    store.close()
    assert right(store, ["a"]) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes where nobody may")
def test_a_folder_that_cannot_be_written_is_read(folder):
    fill(open_store(folder), TEXTS[:10])
    for path in folder.iterdir():
        path.chmod(0o400)
    folder.chmod(0o500)
    try:
        store = open_store(folder)
        assert right(store, TEXTS) == 10
        with pytest.raises(OSError, match=r"cannot be read or kept|Permission denied"):
            fill(store, TEXTS)
    finally:
        folder.chmod(0o700)


def test_a_failed_write_leaves_what_there_was(folder, monkeypatch):
    store = open_store(folder)
    fill(store, TEXTS[:10])

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fill(store, TEXTS)
    assert right(store, TEXTS) == 10
    fill(store, TEXTS)
    assert right(store, TEXTS) == len(TEXTS)


def test_threads_share_a_store(folder):
    store = open_store(folder)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for start in range(0, 200, 50):
            fill(store, TEXTS[start + number : start + 50 : 2])
            right(store, TEXTS[:200])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert right(store, TEXTS[:200]) == 200


# In a process of its own, which forks: a writer is there at once, and dies alone.
CRASHES = """
import os, random, signal, sys, time
from pathlib import Path
from tests.unit_tests.inference import test_token_store as t

folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
choose = random.Random(seed)
written, torn = 0, 0
for kill in range(kills):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        store, own = t.open_store(folder), random.Random(kill)
        number = written
        while True:
            batch = [f"text {n}" for n in range(number, number + own.randint(1, 40))]
            t.fill(store, batch)
            number += len(batch)
            os.write(writing, number.to_bytes(8, "little"))  # from here on they must be there
    os.close(writing)
    answers = b"".join(os.read(reading, 8) for _ in range(choose.choice([0, 1, 1, 2, 5])))
    time.sleep(choose.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        answers += pipe.read()
    acknowledged = int.from_bytes(answers[-8:], "little") if answers else written
    store = t.open_store(folder)
    texts = [f"text {n}" for n in range(acknowledged + 40)]
    kept = t.right(store, texts)
    assert t.right(store, texts[:acknowledged]) == acknowledged, "what was acknowledged is lost"
    assert kept in range(acknowledged, acknowledged + 41)
    if kept:
        (end,) = store._reading[1].execute("SELECT value FROM about WHERE name = 'end'").fetchone()
        torn += (folder / "vectors.bin").stat().st_size > end
    written = kept
print(kills, written, torn)
"""


def crash(folder, kills):
    command = [sys.executable, "-c", CRASHES, str(folder), str(kills), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=300)
    assert done.returncode == 0, done.stderr
    made, written, torn = map(int, done.stdout.split())
    assert made == kills
    assert written > 0
    return torn


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@needs_fork
def test_a_writer_is_killed_and_nothing_wrong_is_ever_read(folder):
    crash(folder, 5)


@needs_fork
@pytest.mark.slow
def test_a_writer_is_killed_a_hundred_times_and_nothing_wrong_is_ever_read(folder):
    torn = crash(folder, 100)
    assert torn > 0  # kills in the middle of a write, between vectors and index


WRITER = """
import sys
from pathlib import Path
from tests.unit_tests.inference import test_token_store as t

store, number = t.open_store(Path(sys.argv[1])), int(sys.argv[2])
for start in range(0, 400, 40):
    t.fill(store, t.TEXTS[start + number : start + 40 : 2])
    t.right(store, t.TEXTS[:400])
"""


def test_processes_share_a_store(folder):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(number)], cwd=PROJECT) for number in range(2)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert right(open_store(folder), TEXTS[:400]) == 400


@needs_fork
def test_a_fork_while_another_thread_reads_does_not_wait_for_that_thread(folder):
    code = """
import os, signal, sys, threading
from pathlib import Path
from tests.unit_tests.inference import test_token_store as t

store = t.open_store(Path(sys.argv[1]))
t.fill(store, t.TEXTS[:50])
assert t.right(store, t.TEXTS) == 50
reads, forked = threading.Event(), threading.Event()

def found(connection, keys, found=store._found):
    reads.set()
    forked.wait()
    return found(connection, keys)

store._found = found
thread = threading.Thread(target=t.right, args=(store, t.TEXTS))
thread.start()
reads.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    del store._found
    assert t.right(store, t.TEXTS) == len(store) == 50
    store.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
forked.set()
thread.join()
assert status == 0, status
assert t.right(store, t.TEXTS) == 50
"""
    command = [sys.executable, "-W", "ignore:.*fork:DeprecationWarning", "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


@needs_fork
def test_a_fork_reads_with_a_connection_of_its_own(folder):
    code = """
import os, sys
from pathlib import Path
from tests.unit_tests.inference import test_token_store as t

store = t.open_store(Path(sys.argv[1]))
t.fill(store, t.TEXTS[:50])
assert t.right(store, t.TEXTS) == 50
mine = store._reading[1]
if os.fork() == 0:
    assert t.right(store, t.TEXTS) == 50
    assert store._reading[1] is not mine
    t.fill(store, t.TEXTS[50:60])
    os._exit(0)
assert os.wait()[1] == 0
assert t.right(store, t.TEXTS) == 60
"""
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
