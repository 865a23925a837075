"""Many calls of one reranker at the same time, while one request in twenty fails: see `tests.benchmarks.hosted`."""

import os
import sys

import pytest

from tests.benchmarks.hosted import load, load_on_threads, soak

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory and sockets are read from /proc")


def test_concurrent_calls():
    assert load(200).problems() == []


def test_threads():
    assert load_on_threads(threads=32, calls=10).problems() == []


@pytest.mark.slow
def test_2000_concurrent_calls():
    assert load(2000).problems() == []


@pytest.mark.slow
def test_soak():
    minutes = float(os.environ.get("RERANKKIT_SOAK_MINUTES", "10"))
    assert soak(200, minutes).problems() == []
