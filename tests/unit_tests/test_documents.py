"""Documents as lines of JSON."""

import json
from pathlib import Path

import pytest
from langchain_core.documents import Document

from langchain_rerankkit import IndexFormatError
from langchain_rerankkit.documents import copy_document, from_lines, to_lines

PATH = Path("store.jsonl")


def nested(levels, kind):
    """Metadata of so many lists or dicts inside each other, itself the first."""
    value = "core"
    for _ in range(levels - 1):
        value = [value] if kind is list else {"in": value}
    return {"in": value}


@pytest.mark.parametrize("kind", [list, dict])
def test_metadata_may_be_nested_as_deep_as_it_can_be_copied(kind):
    document = Document(page_content="[{" * 200, metadata=nested(100, kind), id="1")
    (found,) = from_lines(PATH, to_lines([document]), 1)
    assert found == copy_document(found) == document


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("levels", [101, 900, 100_000])
def test_deeper_metadata_is_neither_saved_nor_read(kind, levels):
    if levels < 1000:
        with pytest.raises(TypeError, match="Document '1', metadata 'in': a value of more than 100 levels"):
            to_lines([Document(page_content="text", metadata=nested(levels, kind), id="1")])
    opening, closing = ("[", "]") if kind is list else ('{"in": ', "}")
    inside = opening * (levels - 1) + "1" + closing * (levels - 1)
    line = f'{{"id": "1", "text": "text", "metadata": {{"in": {inside}}}}}\n'.encode()
    with pytest.raises(IndexFormatError, match=r"store\.jsonl: line 1 is not a document"):
        from_lines(PATH, line, 1)


@pytest.mark.parametrize("metadata", [[[]] * 150, "[" * 150, None])
def test_metadata_that_is_none_is_refused_however_many_brackets_it_has(metadata):
    line = json.dumps({"id": "1", "text": "text", "metadata": metadata}).encode() + b"\n"
    with pytest.raises(IndexFormatError, match="line 1"):
        from_lines(PATH, line, 1)
