from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from langchain_rerankkit import ModelNotFoundError
from langchain_rerankkit.inference.pairs import Limits, encode_pairs
from langchain_rerankkit.inference.tokens import Row, Tokenizer, pad, windows
from tests import models

PROCESSORS = {
    "template": None,
    "bert": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "roberta": processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "two in a row": processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="[CLS] $A",
                pair="[CLS] $A [SEP] [SEP] $B:1 [MASK]:1",
                special_tokens=[("[CLS]", 2), ("[SEP]", 3), ("[MASK]", 4)],
            ),
        ]
    ),
}


def reference(kind):
    tokenizer = models.make_tokenizer()
    if PROCESSORS[kind] is not None:
        tokenizer.post_processor = PROCESSORS[kind]
    return tokenizer


WORDS = st.lists(st.sampled_from([*models.WORDS, "zebra", "é", "."]), max_size=60).map(" ".join)


@pytest.mark.parametrize("kind", PROCESSORS)
@given(query=WORDS, text=WORDS, limit=st.integers(24, 90))
def test_a_pair_is_what_the_tokenizer_itself_makes_of_it(kind, query, text, limit):
    theirs = reference(kind)
    ours = Tokenizer(theirs.to_str())
    cap = limit // 3
    head = theirs.encode(query, add_special_tokens=False)
    if len(head.ids) > cap:  # the tokenizer knows no cap for the query
        return
    theirs.enable_truncation(limit, strategy="only_second")
    expected = theirs.encode(query, text)
    (encoded,) = encode_pairs(ours, [(query, text)], Limits(query=cap), limit)
    (row,) = encoded.rows
    assert row.ids.tolist() == expected.ids
    assert row.types.tolist() == expected.type_ids
    assert encoded.truncated == bool(expected.overflowing)
    assert len(expected.ids) <= limit


def test_truncation_and_padding_of_the_file_are_ignored():
    theirs = models.make_tokenizer()
    theirs.enable_truncation(5)
    theirs.enable_padding(length=64)
    row = Tokenizer(theirs.to_str()).single(np.array([7, 8], np.uint32))
    assert row.ids.tolist() == [2, 7, 8, 3]


def test_a_long_query_is_cut_at_its_own_cap_and_said_so():
    tokenizer = Tokenizer(models.make_tokenizer().to_str())
    (encoded,) = encode_pairs(tokenizer, [("river " * 50, "bread")], Limits(query=10), 64)
    assert len(encoded.rows[0].ids) == 10 + 1 + 3
    assert encoded.truncated
    with pytest.raises(ValueError, match="make it larger"):
        encode_pairs(tokenizer, [("a", "b")], Limits(pair=4), 64)


@given(st.integers(0, 500), st.integers(1, 60), st.data())
def test_windows_cover_everything(length, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    cuts = windows(length, size, overlap)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == length
    for (start, stop), (following, _) in pairwise(cuts):
        assert stop - start == size
        assert start < following <= stop - overlap
    if length <= size:
        assert cuts == [(0, length)]


@pytest.mark.parametrize("left", [False, True])
def test_padding(left):
    rows = [Row(np.array([1, 2, 3], np.uint32), np.array([0, 1, 1], np.uint8)), Row(np.array([4], np.uint32))]
    arrays = pad(rows, 9, left=left)
    assert arrays["input_ids"].tolist() == [[1, 2, 3], [9, 9, 4] if left else [4, 9, 9]]
    assert arrays["attention_mask"].sum() == 4
    assert arrays["token_type_ids"].tolist() == [[0, 1, 1], [0, 0, 0]]


def test_a_damaged_tokenizer():
    with pytest.raises(ModelNotFoundError, match="cannot be read"):
        Tokenizer("{}")
