import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit.hosted.addresses import check_url, endpoint_url, is_loopback, is_public


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/v1", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/v1/", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/v1/rerank", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h/v1/rerank/", "/v1/rerank", "http://h/v1/rerank"),
        ("http://h:8000/prefix", "/v1/rerank", "http://h:8000/prefix/v1/rerank"),
        ("http://h/prefix/v1", "/v1/rerank", "http://h/prefix/v1/rerank"),
        ("http://h/v1", "/v2/rerank", "http://h/v1/rerank"),  # the user's version wins
        ("http://h/v1", "/rerank", "http://h/v1/rerank"),
        ("http://h/v1/reranking", "/v1/rerank", "http://h/v1/reranking"),
        ("https://h/v1/ranking", "/v1/retrieval/m/reranking", "https://h/v1/ranking"),
        ("http://h/my/own/rerank", "/v2/rerank", "http://h/my/own/rerank"),
        ("http://h/openai", "/openai/v1/rerank", "http://h/openai/v1/rerank"),
        ("http://h/openai/v1", "/openai/v1/rerank", "http://h/openai/v1/rerank"),
        ("http://h", "/ml/v1/text/rerank?version=2024-05-31", "http://h/ml/v1/text/rerank?version=2024-05-31"),
        ("http://h?version=1", "/ml/v1/text/rerank?version=2", "http://h/ml/v1/text/rerank?version=1"),
        ("http://h", "/run/@cf/baai/bge", "http://h/run/@cf/baai/bge"),
        ("http://h", "/c/default_ranking_config:rank", "http://h/c/default_ranking_config:rank"),
        ("http://[::1]:80", "/rerank", "http://[::1]:80/rerank"),
    ],
)
def test_a_base_with_or_without_its_path(base, path, url):
    assert endpoint_url(base, path) == url


steps = st.lists(st.sampled_from(["a", "b", "api", "v1", "rerank"]), max_size=4)


@given(steps, st.lists(st.sampled_from(["a", "b", "v1"]), max_size=3))
def test_joining_twice_is_joining_once(given_steps, path_steps):
    path = "/" + "/".join([*path_steps, "rerank"])
    url = endpoint_url("http://h/" + "/".join(given_steps), path)
    assert endpoint_url(url, path) == url
    assert url.endswith("rerank")
    assert "//" not in url.removeprefix("http://")


@pytest.mark.parametrize(
    "url", ["ftp://h", "h", "//h", "http://", "https://user:secret@h", "http://user@h", "http://h#x"]
)
def test_no_address(url):
    with pytest.raises(ValueError, match="base_url") as caught:
        check_url(url, with_key=False, allow_insecure=False)
    assert "secret" not in str(caught.value)


def test_a_key_needs_tls():
    for url in ("https://h", "http://localhost:1", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:80"):
        check_url(url, with_key=True, allow_insecure=False)
    for url in ("http://h", "http://0.0.0.0", "http://localhost.example", "http://10.0.0.1", "http://[::2]"):
        check_url(url, with_key=False, allow_insecure=False)
        check_url(url, with_key=True, allow_insecure=True)
        with pytest.raises(ValueError, match="allow_insecure"):
            check_url(url, with_key=True, allow_insecure=False)


@given(st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_does_not_call_global(address):
    if is_public(str(address)) and not (address.version == 6 and (address.ipv4_mapped or address.sixtofour)):
        assert address.is_global or address in ipaddress.ip_network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
def test_what_is_global_is_public(address):
    clouds = address in ipaddress.ip_network("192.0.0.0/24") or str(address) == "168.63.129.16"
    assert is_public(str(address)) == (address.is_global and not address.is_multicast and not clouds)


@given(st.ip_addresses(v=4))
def test_an_address_inside_an_address(address):
    expected = is_public(str(address))
    assert is_public(f"::ffff:{address}") == expected
    assert is_public(str(ipaddress.ip_address(int(ipaddress.ip_address("64:ff9b::")) + int(address)))) == expected


def test_loopback():
    assert is_loopback("LOCALHOST")
    assert not is_loopback("localhost.example")
    assert not is_public("169.254.169.254")
    assert not is_public("fe80::1%eth0")
    assert not is_public("no address")
