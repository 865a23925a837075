import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_rerankkit import HostedReranker
from langchain_rerankkit.hosted.profiles import Profile, load_profile, profile_names
from langchain_rerankkit.hosted.templates import deep_merge


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_says_what_a_user_needs(name):
    profile = load_profile(name)
    assert profile.title
    assert profile.name == name
    assert profile.key != "required" or profile.key_env or profile.signer
    assert profile.model != "required" or profile.examples or profile.url is None
    assert profile.score is None or profile.index is not None or profile.results
    values = dict.fromkeys(("model", *profile.params), "v")
    body = profile.body("q", ["first", "second"], values=values, top_n=1, instruction="i")
    written = json.dumps(body)
    assert "first" in written
    assert "second" in written
    assert "$" not in written
    assert "each" not in written


def test_values_are_never_templates():
    body = load_profile("pinecone").body("$model", ["$query", "{each}", "$documents"], values={"model": "$text"})
    assert body["query"] == "$model"
    assert body["model"] == "$text"
    assert body["documents"] == [{"text": "$query"}, {"text": "{each}"}, {"text": "$documents"}]


def test_what_is_not_said_is_left_out():
    assert load_profile("cohere").body("q", ["a"], values={}) == {"query": "q", "documents": ["a"]}
    assert load_profile("cohere").body("q", ["a"], values={"model": "m"}, top_n=1)["top_n"] == 1
    assert load_profile("vertex").body("q", ["a", "b"], values={"model": "m"})["topN"] == 2


def test_an_instruction_goes_where_the_provider_wants_it():
    assert load_profile("vllm").body("q", ["a"], values={"model": "m"}, instruction="i")["instruction"] == "i"
    assert (
        load_profile("dashscope").body("q", ["a"], values={"model": "m"}, instruction="i")["parameters"]["instruct"]
        == "i"
    )
    assert load_profile("voyage").body("q", ["a"], values={"model": "m"}, instruction="i")["query"] == "i\nq"
    with pytest.raises(ValueError, match="no instruction"):
        HostedReranker(provider="cohere", model="m", instruction="i")


def test_models_differ():
    jina = load_profile("jina")
    assert jina.for_model("jina-reranker-v3").listwise
    assert jina.for_model("jina-reranker-v3.5").max_documents == 64
    assert not jina.for_model("jina-reranker-m0").listwise
    pinecone = load_profile("pinecone")
    assert "parameters" not in pinecone.for_model("cohere-rerank-4-fast").request
    assert pinecone.for_model("bge-reranker-v2-m3").request["parameters"] == {"truncate": "END"}


@pytest.mark.parametrize("name", ["ollama", "nomic"])
def test_who_has_no_endpoint_gets_an_answer(name):
    with pytest.raises(ValueError, match="no rerank endpoint"):
        HostedReranker(provider=name)


def test_unknown_names_are_told_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown provider 'coher'.*cohere"):
        HostedReranker(provider="coher")


def test_a_profile_of_ones_own(tmp_path):
    mine = {"title": "Mine", "path": "/my/rank", "request": {"q": "$query", "docs": "$documents"}, "results": "best"}
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(mine))  # JSON is YAML
    for provider in (mine, str(file)):
        profile = load_profile(provider)
        assert profile.title == "Mine"
        assert profile.results == "best"
        assert profile.index == "index"
        assert profile.body("q", ["a"], values={"model": "m"}, top_n=1) == {"q": "q", "docs": ["a"]}
    with pytest.raises(ValueError, match="resulst"):
        load_profile({"resulst": "best"})
    with pytest.raises(ValueError, match=r"Unknown placeholders \$docs"):
        load_profile({"request": {"q": "$docs"}})
    file.write_text("!!python/object/apply:os.system [true]")
    with pytest.raises(Exception, match="could not determine a constructor"):
        load_profile(str(file))


def test_request_options_cannot_replace_what_is_filled_in():
    HostedReranker(provider="pinecone", model="m", request_options={"parameters": {"truncate": "NONE"}})
    for options in ({"documents": []}, {"query": "x"}, {"top_n": 3}):
        with pytest.raises(ValueError, match="request_options cannot set"):
            HostedReranker(provider="pinecone", model="m", request_options=options)
    for options in ({"parameters": {"return_options": {"top_n": 1}}}, {"parameters": 3}):
        with pytest.raises(ValueError, match="request_options cannot set"):
            HostedReranker(provider="watsonx", model="m", request_options=options)


trees = st.recursive(
    st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)


@given(st.dictionaries(st.sampled_from("abc"), trees), st.dictionaries(st.sampled_from("abc"), trees))
def test_merging_says_what_the_second_says_and_changes_nothing(first, second):
    before = json.dumps([first, second])
    merged = deep_merge(first, second)
    assert json.dumps([first, second]) == before
    assert set(merged) == set(first) | set(second)
    for name, value in second.items():
        assert merged[name] == value or isinstance(value, dict)
    assert deep_merge(merged, second) == merged
    assert deep_merge(first, {}) == first


def test_params_come_from_the_environment_or_are_asked_for(monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    bedrock = load_profile("bedrock")
    with pytest.raises(ValueError, match="AWS_REGION or AWS_DEFAULT_REGION"):
        bedrock.values("amazon.rerank-v1:0", {})
    assert bedrock.values("amazon.rerank-v1:0", {"region": "us-west-2"})["model"] == (
        "arn:aws:bedrock:us-west-2::foundation-model/amazon.rerank-v1:0"
    )
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert bedrock.values("arn:aws:bedrock:x", {}) == {
        "model": "arn:aws:bedrock:x",
        "model_": "arn:aws:bedrock:x",
        "region": "eu-central-1",
    }
    with pytest.raises(ValueError, match="account_id"):
        load_profile("cloudflare").values("m", {})
    with pytest.raises(ValueError, match="no params"):
        load_profile("cohere").values("m", {"region": "x"})


def test_profiles_are_data():
    for name in profile_names():
        written = load_profile(name).model_dump_json()
        assert Profile.model_validate_json(written).model_dump_json() == written
