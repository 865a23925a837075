import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.inference import token_vectors
from langchain_rerankkit.inference.token_vectors import TokenVectors, compress, maxsim


def by_hand(query, documents):
    """MaxSim as the paper writes it, in Python's own float64, one token after the other."""
    scores = []
    for document in documents:
        total = 0.0
        for one in query.tolist():
            products = [sum(a * b for a, b in zip(one, other, strict=True)) for other in document.tolist()]
            total += max(products) if products else -(sum(a * a for a in one) ** 0.5)
        scores.append(total)
    return scores


@st.composite
def queries_and_documents(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dimensions = draw(st.integers(1, 12))
    lengths = draw(st.lists(st.integers(0, 9), max_size=12))
    # Small whole numbers make ties; many are negative, so that padding with zeros would win.
    values = draw(st.sampled_from(["normal", "ties", "negative"]))

    def vectors(tokens):
        if values == "ties":
            return rng.integers(-1, 2, (tokens, dimensions)).astype(np.float32)
        normal = rng.normal(size=(tokens, dimensions)).astype(np.float32)
        return normal if values == "normal" else np.abs(normal)

    documents = [vectors(length) for length in lengths]
    query = vectors(draw(st.integers(0, 7)))
    return (-query if values == "negative" else query), documents


@given(queries_and_documents(), st.integers(1, 20))
def test_maxsim_is_that_of_a_plain_loop_whatever_is_multiplied_at_once(given_, at_once):
    query, documents = given_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_vectors, "_AT_ONCE", at_once)
        scores = maxsim(query, [TokenVectors(document) for document in documents])
    assert scores == pytest.approx(by_hand(query, documents), abs=1e-4)


@given(queries_and_documents(), st.sampled_from(["int8", "fp16"]))
def test_compressed_vectors_score_as_their_rounded_values_do(given_, kind):
    query, documents = given_
    small = [compress(TokenVectors(document), kind) for document in documents]
    rounded = [
        one.values.astype(np.float64) * (1 if one.scales is None else one.scales[:, None].astype(np.float64))
        for one in small
    ]
    for vectors, near in zip(documents, rounded, strict=True):
        bound = np.abs(vectors).max(axis=1, initial=0)[:, None] * (1 / 254 if kind == "int8" else 2**-10) + 1e-6
        assert (np.abs(vectors - near) <= bound).all()
    assert maxsim(query, small) == pytest.approx(by_hand(query, rounded), abs=1e-4)


@pytest.mark.parametrize("kind", ["int8", "fp16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(kind, value):
    values = np.ones((3, 4), np.float32)
    values[1, 2] = value
    (score,) = maxsim(np.ones((2, 4), np.float32), [compress(TokenVectors(values), kind)])
    assert not np.isfinite(score)


def test_a_vector_of_nearly_nothing_is_compressed_to_nothing():
    values = np.full((1, 4), 1e-42, np.float32)
    small = compress(TokenVectors(values), "int8")
    assert small.values.tolist() == [[0, 0, 0, 0]]
    assert small.scales.tolist() == pytest.approx([1 / 127])
