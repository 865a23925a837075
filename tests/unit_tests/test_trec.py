import gzip
import math
import re

import ir_measures
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_rerankkit import Dataset, DatasetError, Question
from langchain_rerankkit.evaluation.datasets import trec

CLASSIC = """
<top>
<num> Number: 301
<title> International Organized Crime

<desc> Description:
Identify organizations that participate
in international criminal activity.

<narr> Narrative:
A relevant document must name &lt;one&gt; of AT&T, R&amp;D.
</top>

<top>

<num>302</num>
<title>
Poliomyelitis and   Post-Polio
</title>
<desc>Is it <b>under</b> control?</desc>
<narr>Any.</narr>
</top>
"""


def test_classic_topics(tmp_path):
    file = tmp_path / "topics.gz"
    file.write_bytes(gzip.compress(CLASSIC.encode()))
    assert trec.load_topics(file) == {"301": "International Organized Crime", "302": "Poliomyelitis and Post-Polio"}
    assert trec.load_topics(file, field="desc") == {
        "301": "Identify organizations that participate in international criminal activity.",
        "302": "Is it <b>under</b> control?",
    }
    assert trec.load_topics(file, field="narr")["301"] == "A relevant document must name <one> of AT&T, R&D."


def test_the_real_ir_datasets_reads_the_same(tmp_path):
    ir_datasets = pytest.importorskip("ir_datasets")
    trec.save_topics({"301": "Topic: crime", "x-2": "日本"}, tmp_path / "topics", format="classic")
    theirs = ir_datasets.formats.TrecQueries(ir_datasets.util.LocalDownload(tmp_path / "topics"))
    read = trec.load_topics(tmp_path / "topics")
    assert read == {"301": "Topic: crime", "x-2": "日本"}
    assert {q.query_id.strip(): q.title.strip() for q in theirs.queries_iter()} == read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 no tab\n", r"topics:1: .*tab"),
        ("1\ta\n\n1\tb\n", r"topics:3: .*'1' occurs twice"),
        ("1\t \n", r"topics:1: .*tab"),
        ("<top>\n<num> 1\n<title> a\n", r"topics:1: .*</top>"),
        ("<top>\n<num> 1\n<top>\n<num> 2\n<title> b\n</top>", r"topics:1, field 'top': .*</top>"),
        ("<top><num>1<title>a</top>\n</top>", r"topics:2: "),
        ("<top><num>1<title>a</top>\n<top><title>b</top>", r"topics:2, field 'num': .*lacks"),
        ("<top><num>1<desc>a</top>", r"topics:1, field 'title': .*lacks"),
        ("<top><num>1<title>a<title>b</top>", r"topics:1, field 'title': .*twice"),
        ("<topics></topics>", r"topics:1: .*<top>"),
    ],
)
def test_wrong_topics_are_refused_with_their_line(tmp_path, content, message):
    (tmp_path / "topics").write_text(content)
    with pytest.raises(DatasetError, match=message):
        trec.load_topics(tmp_path / "topics")


def test_qrels(tmp_path):
    file = tmp_path / "qrels"
    file.write_text("q1 0 a 1\nq1\t0\tb\t-2\nq1 0 a 1\r\n\nq2 Q0 c 0\n")
    assert trec.load_qrels(file) == {"q1": {"a": 1, "b": -2}, "q2": {"c": 0}}
    file.write_text('query-id\tcorpus-id\tscore\n1\t"a ""b"\t1\n1\ta"b c\t0\n')
    assert trec.load_qrels(file) == {"1": {'a "b': 1, 'a"b c': 0}}, "as the csv module writes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q 0 a 1\nq 0 a\n", r"qrels:2: .*query 0 document grade"),
        ("q 0 a 1.5\n", r"qrels:1: "),
        ("q\t\t1\n", r"qrels:1: "),
        ("a header of mine\n", r"qrels:1: "),
        ("q 0 a 1\nq 0 b 0\nq 0 a 2\n", r"qrels:3: .*'a' has two grades for 'q': 1 and 2"),
    ],
)
def test_wrong_qrels_are_refused_with_their_line(tmp_path, content, message):
    (tmp_path / "qrels").write_text(content)
    with pytest.raises(DatasetError, match=message):
        trec.load_qrels(tmp_path / "qrels")


def test_runs(tmp_path):
    file = tmp_path / "run"
    file.write_text("q Q0 b 1 0.5 tag\nq Q0 a 2 0.5 tag\n\nq Q0 c 3 7 tag with more\n")
    assert trec.load_run(file) == {"q": ["c", "b", "a"]}, "ties keep the file's order"
    file.write_text("q Q0 a\u00a0b 1 0.5 tag\nq Q0 c 2 0.7 tag\n")
    assert trec.load_run(file) == {"q": ["c", "a\u00a0b"]}, "only ASCII's blanks separate"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q Q0 b\n", r"run:1: .*TREC"),
        ("q Q0 b 1 high tag\n", r"run:1: .*TREC"),
        ("q Q0 b 1 2 t\nq Q0 a 2 1 t\nq Q0 b 3 0 t\n", r"run:3: .*'b' occurs twice for 'q'"),
        ("q Q0 b 1 nan t\n", r"run:1: .*NaN"),
    ],
)
def test_wrong_runs_are_refused_with_their_line(tmp_path, content, message):
    (tmp_path / "run").write_text(content)
    with pytest.raises(DatasetError, match=message):
        trec.load_run(tmp_path / "run")
    with pytest.raises(DatasetError, match="cannot be read"):
        trec.load_run(tmp_path / "missing")


@pytest.mark.parametrize("id_", ["", "a b", "a\tb", "a\u2028b", "\0", "a\u00a0", "\ufeffa"])
def test_ids_that_the_format_cannot_hold_are_refused(tmp_path, id_):
    for save, content in [
        (trec.save_run, {"q": [id_]}),
        (trec.save_run, {id_: ["d"]}),
        (trec.save_qrels, {"q": {id_: 1}}),
        (trec.save_qrels, {id_: {"d": 1}}),
        (trec.save_topics, {id_: "text"}),
    ]:
        with pytest.raises(DatasetError, match=re.escape(repr(id_))):
            save(content, tmp_path / "file")
    with pytest.raises(DatasetError, match="tag"):
        trec.save_run({"q": ["d"]}, tmp_path / "file", tag=id_)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run", "run.gz"])
def test_runs_that_mean_nothing_are_refused_and_the_file_stays_as_it_was(tmp_path, name):
    file = tmp_path / name
    trec.save_run({"q": ["a"]}, file)
    before = file.read_bytes()
    for run in ({"q": ["b"], "r": ["a", "a"]}, {"q": {"a": math.inf}}, {"q": {"a": math.nan}}):
        with pytest.raises(DatasetError, match="twice or has a score"):
            trec.save_run(run, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_equal_data_give_equal_gzipped_files(tmp_path):
    for name in ("a.gz", "b.gz"):
        trec.save_run({"q": {"a": 0.5, "b": 2}}, tmp_path / name, tag="t")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"q Q0 b 1 2 t\nq Q0 a 2 0.5 t\n"


ids = st.text(st.characters(), min_size=1, max_size=5)
anything = st.text(st.characters(), max_size=12)


def saved(save, content, file):
    """Whether it could be written; otherwise it was refused."""
    try:
        save(content, file)
    except DatasetError:
        return False
    return True


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("trec") / "file"


@given(run=st.dictionaries(ids, st.lists(ids, min_size=1, max_size=4, unique=True), max_size=3))
def test_runs_come_back_or_are_refused(file, run):
    assume(saved(trec.save_run, run, file))
    assert trec.load_run(file) == run


@given(qrels=st.dictionaries(ids, st.dictionaries(ids, st.integers(), min_size=1, max_size=4), max_size=3))
def test_qrels_come_back_or_are_refused(file, qrels):
    assume(saved(trec.save_qrels, qrels, file))
    assert trec.load_qrels(file) == qrels


@given(
    topics=st.dictionaries(ids, anything | st.from_regex(r"\A[tT]opic ?: x|<(title|/top|b)>&(amp;|lt;)?"), max_size=3)
)
@pytest.mark.parametrize("format_", ["tsv", "classic"])
def test_topics_come_back_or_are_refused(file, format_, topics):
    assume(topics and saved(lambda content, path: trec.save_topics(content, path, format=format_), topics, file))
    assert trec.load_topics(file) == topics


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=4)


@given(
    qrels=st.dictionaries(words, st.dictionaries(words, st.integers(0, 3), min_size=1), min_size=1, max_size=3),
    run=st.dictionaries(words, st.lists(words, min_size=1, unique=True), min_size=1, max_size=3),
)
def test_ir_measures_reads_what_we_write_in_our_order(file, qrels, run):
    trec.save_qrels(qrels, file)
    theirs = {}
    for qrel in ir_measures.read_trec_qrels(str(file)):
        theirs.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    assert theirs == qrels
    trec.save_run(run, file)
    scored = {}
    for line in ir_measures.read_trec_run(str(file)):
        scored.setdefault(line.query_id, {})[line.doc_id] = line.score
    # Any reader's order of ties, since there are none.
    assert {query: sorted(found, key=lambda id_: (-found[id_], id_)) for query, found in scored.items()} == run


def test_a_dataset_of_topics_and_qrels(tmp_path):
    (tmp_path / "topics.txt").write_text(CLASSIC)
    (tmp_path / "qrels").write_text("302 0 d 2\n302 0 e 0\n")
    dataset = Dataset.from_trec(tmp_path / "topics.txt", tmp_path / "qrels")
    assert dataset == Dataset((Question("302", "Poliomyelitis and Post-Polio", (), {"d": 2, "e": 0}),), name="topics")
    (tmp_path / "qrels").write_text("302 0 d 2\n303 0 e 0\n")
    with pytest.warns(UserWarning, match=r"qrels: 1 judged queries .*'303'"):
        assert Dataset.from_trec(tmp_path / "topics.txt", tmp_path / "qrels", name="polio").name == "polio"
