import json
import sys
from contextlib import suppress

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from pydantic import SecretStr

import langchain_rerankkit
from langchain_rerankkit import (
    BiEncoderReranker,
    CachedReranker,
    CascadeReranker,
    CohereReranker,
    ConfigError,
    CrossEncoderReranker,
    DiversityReranker,
    EmbeddedEmbeddings,
    EmbeddedReranker,
    EnsembleReranker,
    FallbackReranker,
    FunctionReranker,
    HostedReranker,
    LexicalReranker,
    ListwiseReranker,
    RankLLMReranker,
    Reranker,
    TermStatistics,
    WatsonxReranker,
    load_reranker,
    reranker_config,
    save_reranker,
)
from langchain_rerankkit.config.kinds import KINDS, argument, guarded, holds, main_field, never
from langchain_rerankkit.config.loading import make
from langchain_rerankkit.config.saving import config_of
from langchain_rerankkit.config.specs import parse_spec

# Fields that were looked at and can do no harm wherever they come from: they neither reach out, nor read or write a file, nor
# run anything. A new field fails the test below until it is here, is guarded, or is refused.
HARMLESS = set(
    """activation allow_private_networks b backend backoff batch_size batch_tokens break_after break_seconds chunk_overlap
    chunk_score context_size deadline details device file_name first_stage_key first_stage_weight instruction
    irrelevant k1 kind label language lexical_weight local_files_only logprobs long_documents max_calls max_characters max_chunks
    max_concurrency max_documents max_length max_query_length max_response_bytes max_retries max_tokens method min_score model
    model_path name on_error on_nan passage_tokens passes precision prices prompt prompt_tokens relevant request_options
    requests_per_minute rerankers revision seed sha256 shares step strategy stride threads timeout top_n weights
    window_size document_text candidates keep_rest margin budget similarity store_precision duplicates
    identity lambda_mult max_entries reranker ttl""".split()  # noqa: SIM905 - a line each would be a page
)
CLASSES = {kind: getattr(langchain_rerankkit, name) for kind, name in KINDS.items()}


def line_of(config):
    """The line that says what a configuration says, every value as JSON."""
    kind, main = config["type"], main_field(config["type"])
    model = f":{config[main].replace('%', '%25').replace('?', '%3F')}" if main in config else ""
    fields = [
        f"{field}={json.dumps(value).replace('%', '%25').replace('&', '%26')}"
        for field, value in config.items()
        if field not in {"type", main}
    ]
    return f"{kind}{model}{'?' if fields else ''}{'&'.join(fields)}"


def every_field():
    for kind, made in CLASSES.items():
        for field in made.model_fields:
            yield kind, field


def fields_of(reranker):
    """A reranker as data; two of them are never equal, since each has a model of its own to load."""

    def plain(value):
        if isinstance(value, Reranker):
            return fields_of(value)
        if isinstance(value, list):
            return list(map(plain, value))
        return repr(value) if isinstance(value, EmbeddedEmbeddings) else value

    return type(reranker), {name: plain(value) for name, value in reranker}


# --- what a configuration is ------------------------------------------------------------------------------------------


def test_every_public_reranker_has_a_kind_but_for_functions():
    public = {
        name
        for name in langchain_rerankkit.__all__
        if isinstance(made := getattr(langchain_rerankkit, name), type) and issubclass(made, Reranker)
    }
    assert public - set(KINDS.values()) == {"Reranker", "FunctionReranker"}
    assert len(set(KINDS.values())) == len(KINDS)


def test_a_line_a_dict_and_a_file_say_the_same(tmp_path):
    line = "cross-encoder:BAAI/bge-reranker-base?top_n=5&precision=int8&min_score=0.5"
    fields = {
        "type": "cross-encoder",
        "model": "BAAI/bge-reranker-base",
        "top_n": 5,
        "precision": "int8",
        "min_score": 0.5,
    }
    file = tmp_path / "reranker.toml"
    file.write_text(tomli_w.dumps(fields))
    expected = CrossEncoderReranker(model="BAAI/bge-reranker-base", top_n=5, precision="int8", min_score=0.5)
    for config in (line, fields, file, str(file)):
        assert fields_of(load_reranker(config)) == fields_of(expected)
    assert parse_spec(line) == fields


def test_rerankers_inside_a_reranker_are_tables_or_lines(tmp_path):
    file = tmp_path / "ensemble.toml"
    file.write_text("""
        type = "fallback"
        deadline = 2.0
        rerankers = ["cohere:rerank-v3.5", {type = "ensemble", rerankers = ["lexical?k1=0.9", "embedded"], weights = [1, 0.5]}]
    """)
    loaded = load_reranker(file)
    ensemble = EnsembleReranker(rerankers=[LexicalReranker(k1=0.9), EmbeddedReranker()], weights=[1, 0.5])
    expected = FallbackReranker([CohereReranker(model="rerank-v3.5"), ensemble], deadline=2.0)
    assert fields_of(loaded) == fields_of(expected)
    assert fields_of(load_reranker(line_of(reranker_config(loaded)))) == fields_of(expected)


def test_what_is_loaded_reranks():
    documents = [Document(page_content="bread and cheese"), Document(page_content="the river flows")]
    found = load_reranker("lexical?top_n=1").invoke({"query": "which river flows", "documents": documents})
    assert [document.page_content for document in found] == ["the river flows"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    model=st.one_of(TEXT, st.sampled_from(["a/b:c?d=e&f%20%", "C:\\models\\x", "null", "5", '"quoted"', "x.toml"])),
    instruction=st.one_of(
        st.none(), TEXT, st.sampled_from(["null", "true", "1e5", "[1]", '{"a": 1}', "a&b=c?%26", "NaN"])
    ),
    top_n=st.integers(1, 10**9),
    min_score=st.floats(allow_nan=False),
    details=st.booleans(),
    names=st.lists(TEXT, max_size=3),
)
def test_every_line_comes_back(model, instruction, top_n, min_score, details, names):  # noqa: PLR0917
    config = {
        "type": "cross-encoder",
        "model": model,
        "instruction": instruction,
        "top_n": top_n,
        "min_score": min_score,
        "details": details,
        "document_text": names,
        "local_files_only": not details,
    }
    assert parse_spec(line_of(config)) == config
    nested = {"type": "ensemble", "rerankers": [config, line_of(config)], "weights": [1.0, min_score]}
    assert parse_spec(line_of(nested)) == nested


@pytest.mark.parametrize(
    ("line", "value"),
    [("a b", "a b"), ("a%26b=c", "a&b=c"), ('"5"', "5"), ("null", None), ("[1", "[1"), ("%22null%22", "null")],
)
def test_a_text_needs_quotes_only_where_it_would_be_something_else(line, value):
    assert parse_spec(f"cross-encoder:m?instruction={line}")["instruction"] == value


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_an_error_that_says_so(text):
    try:
        assert isinstance(load_reranker(text), Reranker)
    except ConfigError:
        pass
    except OSError:
        assert text.endswith(".toml")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("lexical")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "rerankers", "top_n", "model", "weights", "provider"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(st.sampled_from(sorted({f for _, f in every_field()})), JSON, max_size=3),
)
def test_any_data_is_a_configuration_or_an_error_that_says_so(kind, fields):
    with suppress(ConfigError):
        assert type(load_reranker({"type": kind, **fields})) is CLASSES[kind]


# --- the way back -----------------------------------------------------------------------------------------------------


class FakeCrossEncoder:
    def score(self, pairs):
        return [0.0 for _ in pairs]


RERANKERS = [
    LexicalReranker(language=None, k1=0.5),
    EmbeddedReranker(lexical_weight=0.25, top_n=3),
    BiEncoderReranker(embeddings=EmbeddedEmbeddings()),
    CrossEncoderReranker(model="a b:c?d", document_text=["title", "section"], long_documents="chunk", chunk_overlap=0),
    CohereReranker(model="rerank-v3.5", request_options={"max_tokens_per_doc": 512}, break_after=None),
    HostedReranker(provider="jina", model="m"),
    CascadeReranker(
        [EmbeddedReranker(top_n=30), CrossEncoderReranker(model="m", top_n=10)], candidates=50, keep_rest=True
    ),
    CachedReranker(reranker=CrossEncoderReranker(model="m", max_length=128), ttl=60.0),
    DiversityReranker(reranker=LexicalReranker(), embeddings=EmbeddedEmbeddings(), lambda_mult=0.5),
    EnsembleReranker(
        rerankers=[LexicalReranker(language=None), EmbeddedReranker()], method="rrf", first_stage_weight=0.5
    ),
]


@pytest.mark.parametrize("reranker", RERANKERS, ids=lambda reranker: type(reranker).__name__)
def test_what_is_saved_is_loaded_again(reranker, tmp_path):
    file = save_reranker(reranker, tmp_path / "r.toml", comment="nDCG@10 0.5\n\nof a\x1bset = 3")
    assert file.read_text(encoding="utf-8").startswith("# nDCG@10 0.5\n#\n# of a\ufffdset = 3\n\n")
    assert fields_of(load_reranker(file)) == fields_of(reranker)
    assert fields_of(load_reranker(reranker_config(reranker))) == fields_of(reranker)
    assert fields_of(load_reranker(line_of(reranker_config(reranker)))) == fields_of(reranker)
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_only_what_is_not_at_its_default_is_saved():
    assert reranker_config(LexicalReranker(top_n=5)) == {"type": "lexical", "top_n": 5}


@pytest.mark.parametrize(
    ("reranker", "why"),
    [
        (FunctionReranker(function=lambda query, texts: [0.0] * len(texts)), "FunctionReranker is none of"),
        (CohereReranker(model="m", api_key=SecretStr("hush")), "secret"),
        (LexicalReranker(document_text=lambda document: "x"), "no function"),
        (LexicalReranker.from_texts(["a"]), "statistics is an object"),
        (CrossEncoderReranker(client=FakeCrossEncoder(), model="m"), "object"),
    ],
    ids=lambda value: value[:10] if isinstance(value, str) else type(value).__name__,
)
def test_what_a_file_cannot_hold_is_refused(reranker, why, tmp_path):
    with pytest.raises(ConfigError, match=why) as caught:
        save_reranker(EnsembleReranker(rerankers=[reranker]), tmp_path / "r.toml")
    assert "hush" not in str(caught.value)
    assert not list(tmp_path.iterdir())


REQUEST = {"query": "$query", "documents": "$documents"}


def custom(**keys):
    return HostedReranker(provider={"name": "mine", "url": "https://h.example/rerank", "request": REQUEST, **keys})


def tei(url):
    return HostedReranker(provider="tei", base_url=url)


@pytest.mark.parametrize(
    ("reranker", "field"),
    [
        (RankLLMReranker(model="m", options={"api_key": "hush"}), "options"),
        (RankLLMReranker(model="m", options={"keys": ["hush"]}), "options"),
        (custom(headers={"Authorization": "Bearer hush"}), "provider"),
        (custom(headers={"X-Api-Key": "hush"}), "provider"),
        (custom(headers={"X-Forwarded": "Bearer hush"}), "provider"),
        (custom(headers={"X-Forwarded": "Basic bWU6aHVzaA=="}), "provider"),
        (custom(path="/rerank?api_key=hush"), "provider"),
        (custom(path="rerank?v=1&key=hush"), "provider"),
        (tei("https://h.example/x?api_key=hush"), "base_url"),
        (tei("https://h.example/x?a=1&api%5Fkey=hush"), "base_url"),
        (CohereReranker(model="m", request_options={"a": {"b": [{"api_key": "hush"}]}}), "request_options"),
        (CohereReranker(model="m", request_options={"webhook": "https://me:hush@h.example"}), "request_options"),
        (WatsonxReranker(model="m", params={"project_id": "p", "token": "hush"}), "params"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_secret_is_written_wherever_it_stands(reranker, field, tmp_path):
    for whole in (reranker, FallbackReranker([reranker, LexicalReranker()])):
        with pytest.raises(ConfigError, match=f"^{field}: .*secret") as caught:
            save_reranker(whole, tmp_path / "r.toml")
        assert "hush" not in str(caught.value)
        assert "hush" not in str(config_of(whole, [field]))
        assert config_of(whole, [field])[1] == {field}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "reranker",
    [
        CohereReranker(
            model="m",
            request_options={"max_tokens": 5, "prompt_tokens": "all", "max_new_token": 7, "search": "basic retrieval"},
        ),
        custom(key="required", key_env=["MY_KEY"], auth="Authorization: Bearer {key}", path="/rerank?version=2"),
        custom(headers={"X-Token": "{token}"}, params={"token": {"env": ["MY_TOKEN"]}}),
        tei("https://h.example/x?version=1&key="),
        CrossEncoderReranker(model="org/me@v1", instruction="Bearer of news: an e-mail from a@b.example?"),
    ],
)
def test_what_only_looks_like_a_secret_is_written(reranker, tmp_path):
    file = save_reranker(reranker, tmp_path / "r.toml")
    assert fields_of(load_reranker(file, allow="all")) == fields_of(reranker)


def test_a_mapping_with_a_type_is_not_taken_for_a_reranker(tmp_path):
    options = {"type": "x", "a": "null", "b": {"type": "y", "c": 1}}
    file = save_reranker(CohereReranker(model="m", request_options=options), tmp_path / "r.toml")
    assert load_reranker(file).request_options == options
    with pytest.raises(ConfigError, match="cannot hold"):  # and not the text "null" in place of None
        save_reranker(CohereReranker(model="m", request_options={"type": "x", "a": None}), file)


def test_what_is_left_out_is_given_again():
    statistics = TermStatistics.from_texts(["a b", "b c"])
    reranker = EnsembleReranker(
        rerankers=[LexicalReranker(statistics=statistics), EmbeddedReranker(statistics=statistics)]
    )
    config = reranker_config(reranker, without={"statistics"})
    assert config == {"type": "ensemble", "rerankers": [{"type": "lexical"}, {"type": "embedded"}]}
    assert fields_of(load_reranker(config, statistics=statistics)) == fields_of(reranker)


def test_objects_are_asked_for_where_they_can_be_used():
    asked = []

    def give(name, fields):
        asked.append((name, fields.get("language")))

    make({"type": "ensemble", "rerankers": ["lexical?language=german", "cross-encoder:m", "lexical"]}, (), give)
    assert asked == [("statistics", "german"), ("statistics", None)]


def test_what_was_left_out_is_told():
    statistics = TermStatistics.from_texts(["a b", "b c"])
    reranker = EnsembleReranker(rerankers=[LexicalReranker(statistics=statistics), EmbeddedReranker()], top_n=3)
    config, left_out = config_of(reranker, ("statistics", "store", "api_key", "top_n"))
    assert left_out == {"statistics"}  # and top_n is not: a configuration can hold it
    assert config == {"type": "ensemble", "top_n": 3, "rerankers": [{"type": "lexical"}, {"type": "embedded"}]}


def test_a_subclass_is_not_taken_for_its_parent():
    class Mine(LexicalReranker):
        pass

    Mine.__name__ = "LexicalReranker"
    with pytest.raises(ConfigError, match="of this package"):
        reranker_config(Mine())


# --- what it may not say ----------------------------------------------------------------------------------------------


def test_every_field_was_looked_at():
    unseen = {
        field
        for kind, field in every_field()
        if field not in HARMLESS
        and argument(kind, field) is None
        and not any(guarded(field, value) or never(kind, field, value) for value in ("/a/path", {"a": 1}, True))
    }
    assert not unseen, f"Decide in kinds.py whether a file may say {sorted(unseen)}, or add them to HARMLESS."


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ("vllm:m?base_url=https://stranger.example", "base_url"),
        (
            {"type": "hosted", "provider": {"url": "https://stranger.example", "key_env": ["AWS_SECRET_ACCESS_KEY"]}},
            "provider",
        ),
        ({"type": "hosted", "provider": "profile.yaml", "model": "m"}, "provider"),
        ({"type": "watsonx", "model": "m", "params": {"iam_url": "https://stranger.example"}}, "params"),
        ("cohere:m?verify=false", "verify"),
        ("cohere:m?verify=/etc/passwd", "verify"),
        ("cohere:m?allow_insecure=true", "allow_insecure"),
        ("cross-encoder:m?cache_dir=/tmp/x", "cache_dir"),
        ("rankllm:m?prompt_template_path=/etc/passwd", "prompt_template_path"),
        ("late-interaction:m?store=/tmp/x", "store"),
        ({"type": "cached", "reranker": "lexical", "path": "scores.sqlite"}, "path"),
        ({"type": "rankllm", "model": "m", "options": {"x": 1}}, "options"),
        ("listwise?record=/tmp/x", "record"),
        ("listwise?replay=/tmp/x", "replay"),
        ("listwise?style=./style.yaml", "style"),
    ],
)
def test_what_reaches_out_reads_or_writes_has_to_be_allowed(config, field):
    nested = {"type": "fallback", "rerankers": ["embedded", config]}
    for one, place in ((config, field), (nested, rf"rerankers\[1\]\.{field}")):
        with pytest.raises(ConfigError, match=f"^{place}: .*allow="):
            load_reranker(one)
        with pytest.raises(ConfigError, match=f"^{place}: .*allow="):
            load_reranker(one, allow={"top_n"})


@pytest.mark.parametrize("style", ["creds", "creds.yaml", "yes_no"])
def test_a_style_is_a_known_one_and_never_a_file_of_that_name(style, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / style).write_text("user: me\n  hush: [")
    chat = FakeListChatModel(responses=["x"])
    for allow in ((), {"style"}):
        with pytest.raises(ConfigError, match="style") as caught:
            load_reranker({"type": "listwise", "style": style}, allow=allow, chat_model=chat)
        assert "hush" not in str(caught.value)
    assert load_reranker("listwise?style=rankzephyr", chat_model=chat).style == "rankzephyr"
    assert load_reranker("pointwise?style=graded", chat_model=chat).style == "graded"


def test_what_is_allowed_is_loaded():
    spec = "vllm:m?base_url=http://localhost:8000&allow_insecure=true"
    expected = {"base_url": "http://localhost:8000", "allow_insecure": True}
    for allow in ("all", {"base_url", "allow_insecure"}):
        assert expected.items() <= dict(load_reranker(spec, allow=allow)).items()
    with pytest.raises(ConfigError, match="allow_insecure"):
        load_reranker(spec, allow="base_url")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("cohere:m?api_key=hush", "environment variable"),
        ("cohere:m?proxy=http://me:hush@proxy", "environment variable"),
        ({"type": "rankllm", "model": "m", "api_key": "hush"}, "environment variable"),
        ("cross-encoder:m?trust_remote_code=true&revision=hush", "code"),
        ({"type": "cross-encoder", "client": "hush"}, "object"),
        ({"type": "cohere", "model": "m", "http_client": "hush"}, "object"),
        ({"type": "lexical", "statistics": {"hush": 1}}, "statistics="),
        ("listwise:hush", "chat_model="),
        ("listwise", "chat_model="),
        ("bi-encoder", 'embeddings is "embedded", or given as load_reranker.…, embeddings='),
        ("diversity?top_n=2", 'diversity needs this: embeddings is "embedded"'),
        ("bi-encoder:hush.module:Class", "embeddings="),
        ({"type": "lexical", "document_text": "os.system"}, "document_text"),
        ({"type": "tests.unit_tests.test_cli:LongestFirst"}, "Unknown reranker"),
        ({"type": "ensemble", "rerankers": ["/etc/hush.toml"]}, "Unknown reranker"),
    ],
)
def test_some_things_are_refused_whoever_allows_them(config, why):
    with pytest.raises(ConfigError, match=why) as caught:
        load_reranker(config, allow="all")
    if why != "Unknown reranker":
        assert "hush" not in str(caught.value)


def test_objects_are_given_by_the_program():
    chat = FakeListChatModel(responses=[""])
    listwise = load_reranker("listwise?window_size=5&step=2", chat_model=chat)
    assert fields_of(listwise) == fields_of(ListwiseReranker(model=chat, window_size=5, step=2))
    embeddings, store = EmbeddedEmbeddings(), object()
    inner = load_reranker(
        {"type": "ensemble", "rerankers": ["bi-encoder"]}, embeddings=embeddings, store=store
    ).rerankers[0]
    assert inner.embeddings is embeddings
    assert inner.store is store
    assert isinstance(load_reranker("bi-encoder:embedded").embeddings, EmbeddedEmbeddings)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('type = "cross-encodr"', "Unknown reranker 'cross-encodr'. Did you mean 'cross-encoder'"),
        ("top_n = 5", "table with a type"),
        ('type = "lexical"\ntopn = 5', "topn: lexical has no field 'topn'. Did you mean 'top_n'"),
        ('type = "lexical"\ntop_n = 0', "top_n: Input should be greater"),
        ('type = "lexical"\ntop_n = "many"', "top_n: Input should be a valid integer"),
        ('type = "lexical"\ntop_n = 1979-05-27', "no date"),
        ('type = "ensemble"\nrerankers = [3]', r"rerankers\[0\]: A reranker is a table"),
        ('type = "ensemble"\nrerankers = [{type = "lexical", top_n = 3}]', "EnsembleReranker"),
        ('type = "ensemble"\n[[rerankers]]\ntype = "lexical"\nlanguag = "x"', r"rerankers\[0\].languag: .*'language'"),
        ("type = ", "not TOML"),
        ("a = " + "[" * 5000, "not TOML|larger"),
        ("#" * 1_100_000, "larger than 1 MiB"),
    ],
)
def test_mistakes_in_a_file_are_said_with_the_file_and_the_place(tmp_path, content, why):
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=why) as caught:
        load_reranker(file)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("lexical:model", "no field 'model'"),
        ("lexical?top_n", "not FIELD=VALUE"),
        ("lexical?top_n=1&top_n=2", "said twice"),
        ("cross-encoder:a?model=b", "said twice"),
        ("lexical?type=embedded", "said twice"),
        ("lexical?", "not FIELD=VALUE"),
        ("", "Unknown reranker ''"),
    ],
)
def test_mistakes_in_a_line_are_said(spec, why):
    with pytest.raises(ConfigError, match=why):
        load_reranker(spec)


def test_a_file_that_is_not_there_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_reranker(tmp_path / "missing.toml")


def test_a_deep_configuration_ends():
    config: object = "lexical"
    for _ in range(3000):
        config = {"type": "ensemble", "rerankers": [config]}
    with pytest.raises(ConfigError, match="too deep"):
        load_reranker(config)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomli_w", None)
    with pytest.raises(langchain_rerankkit.MissingExtraError, match=r"langchain-rerankkit\[config\]"):
        save_reranker(LexicalReranker(), tmp_path / "r.toml")


def test_holding_is_seen_through_unions_and_lists():
    assert holds(list[Reranker] | None, Reranker)
    assert not holds(list[str] | None, Reranker)
