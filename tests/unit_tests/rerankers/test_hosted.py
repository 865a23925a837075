"""Every profile against its provider's fake, over real sockets, in all clauses of the contract."""

import pytest

from langchain_rerankkit.hosted.profiles import profile_names
from langchain_rerankkit.testing import RerankerTests
from tests.hosted import KEY, NAMED, hosted, open_accounts
from tests.rerank_fakes import FAKES
from tests.rerank_server import serve

SAME_WIRE = {"custom": "vllm", "nvidia-nim": "nvidia"}  # profiles that speak as another's fake does


class Hosted(RerankerTests):
    provider = ""
    fields = {}
    required_module = "httpx"
    secrets = (KEY,)

    @pytest.fixture(autouse=True, scope="class")
    @staticmethod
    def server(request):
        with serve(FAKES[SAME_WIRE.get(request.cls.provider, request.cls.provider)]()) as server:
            request.cls.url = server.url
            yield

    @pytest.fixture(autouse=True)
    @staticmethod
    def credentials(monkeypatch):
        open_accounts(monkeypatch)

    def make_reranker(self, **fields):
        return hosted(self.provider, self.url, **self.fields | fields)


for _provider in (*FAKES, *SAME_WIRE):
    _name = f"Test{NAMED.get(_provider, _provider.title().replace('-', '') + 'HostedReranker')}"
    globals()[_name] = type(_name, (Hosted,), {"provider": _provider, "__test__": True})
Hosted.__test__ = False
CHUNKS = {"long_documents": "chunk", "max_characters": 30, "chunk_overlap": 8}


class TestCohereRerankerInChunks(Hosted):
    __test__ = True
    provider, fields = "cohere", CHUNKS


class TestTEIRerankerInChunks(Hosted):
    __test__ = True
    provider, fields = "tei", CHUNKS


class TestNVIDIARerankerInChunks(Hosted):
    __test__ = True
    provider, fields = "nvidia", CHUNKS | {"chunk_score": "mean"}


def test_every_profile_has_a_fake():
    assert set(profile_names()) == {*FAKES, *SAME_WIRE}
