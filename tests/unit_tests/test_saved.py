"""Stores as folders while others write to them."""

import threading

import pytest

from langchain_rerankkit import IndexFormatError, saved
from langchain_rerankkit.saved import Format, read_folder, write_folder

FORM = Format(name="test", saved_by="nothing", fields={"count": "[0-9]+"}, files={"a": "a", "b": "b"})


def write(folder, number):
    write_folder(folder, "store", FORM, {"count": number}, {part: f"{part} {number}".encode() for part in "ab"})


def read(folder):
    found = read_folder(folder, "store", FORM)
    assert {data.decode() for data in found.data.values()} == {f"{part} {found.fields['count']}" for part in "ab"}
    assert [path.read_bytes() for path in found.paths.values()] == list(found.data.values())
    return found.fields["count"]


@pytest.mark.parametrize("others", [[1], [1, 0], [1, 2, 3]])
@pytest.mark.parametrize("when", [0, 1])
def test_a_folder_saved_while_it_is_read_reads_as_one_of_the_saves(tmp_path, monkeypatch, others, when):
    write(tmp_path, 0)
    original, calls = saved._read, []

    def interrupted(path, sha256):
        calls.append(path)
        if len(calls) == when + 1:
            for number in others:
                write(tmp_path, number)
        return original(path, sha256)

    monkeypatch.setattr(saved, "_read", interrupted)
    assert read(tmp_path) == others[-1]


def test_a_wrong_file_that_a_save_has_replaced_meanwhile_is_read_again(tmp_path, monkeypatch):
    write(tmp_path, 0)
    original = saved._read

    def interrupted(path, sha256):
        monkeypatch.setattr(saved, "_read", original)
        path.write_bytes(b"half")
        try:
            return original(path, sha256)
        finally:
            write(tmp_path, 0)

    monkeypatch.setattr(saved, "_read", interrupted)
    assert read(tmp_path) == 0


@pytest.mark.parametrize(("there", "message"), [(False, "missing"), (True, "damaged")])
def test_what_is_missing_or_damaged_for_good_is_so_at_the_first_try(tmp_path, monkeypatch, there, message):
    write(tmp_path, 0)
    (path,) = tmp_path.glob("*.a")
    path.unlink()
    if there:
        path.touch()
    original, calls = saved._read, []
    monkeypatch.setattr(saved, "_read", lambda *args: calls.append(args) or original(*args))
    with pytest.raises(IndexFormatError, match=message):
        read(tmp_path)
    assert len(calls) == 1


def test_who_never_comes_between_two_saves_gives_up(tmp_path, monkeypatch):
    write(tmp_path, 0)
    original, calls = saved._read, []

    def interrupted(path, sha256):
        calls.append(path)
        write(tmp_path, len(calls))
        return original(path, sha256)

    monkeypatch.setattr(saved, "_read", interrupted)
    with pytest.raises(IndexFormatError, match="missing"):
        read(tmp_path)
    assert 1 < len(calls) < 100


def test_readers_beside_a_writer_never_fail(tmp_path):
    write(tmp_path, 0)
    done = threading.Event()

    def writes():
        for number in range(60):
            write(tmp_path, number % 3)
        done.set()

    writer = threading.Thread(target=writes)
    writer.start()
    while not done.is_set():
        assert read_folder(tmp_path, "store", FORM).fields["count"] in range(3)
    writer.join()
