import asyncio
import copy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.retrievers import ParentDocumentRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.stores import InMemoryStore
from langchain_core.tracers.context import collect_runs
from langchain_tests.integration_tests.retrievers import RetrieversIntegrationTests
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pydantic import ValidationError

from langchain_rerankkit import (
    FAISS,
    ContextualCompressionRetriever,
    FunctionReranker,
    FusionRetriever,
    LexicalReranker,
    ParentRetriever,
)
from langchain_rerankkit.testing import FixedRetriever

# Words that occur once each, so that text that is repeated shows.
TEXTS = {
    name: " ".join(f"{name}{n}" + ("." if n % 9 == 8 else "") + ("\n\n" if n % 45 == 44 else "") for n in range(300))
    for name in ("apple", "beet", "corn")
}


def parents(**metadata):
    return [
        Document(page_content=text, id=f"id-{name}", metadata={"doc_id": name, "title": name.title(), **metadata})
        for name, text in TEXTS.items()
    ]


def split(documents, size=200, overlap=40, **options):
    splitter = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap, **options)
    chunks = splitter.split_documents(documents)
    for number, chunk in enumerate(chunks):
        chunk.id = f"c{number}"
    return chunks


def stored(documents):
    docstore = InMemoryStore()
    docstore.mset([(document.metadata["doc_id"], document) for document in documents])
    return docstore


def make(chunks, docstore=None, **fields):
    return ParentRetriever(
        base_retriever=FixedRetriever(documents=chunks), docstore=docstore or stored(parents()), **fields
    )


def holding(chunks, *words):
    """For each word the first chunk that has it."""
    return [next(chunk for chunk in chunks if re.search(rf"\b{word}\b", chunk.page_content)) for word in words]


class TestStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return ParentRetriever

    @property
    def retriever_constructor_params(self):
        chunks = holding(split(parents()), "apple3", "beet100", "corn7", "apple200")
        return {"base_retriever": FixedRetriever(documents=chunks), "docstore": stored(parents())}

    @property
    def retriever_query_example(self):
        return "q"


ways = pytest.mark.parametrize(
    "ask",
    [
        lambda retriever, query, **options: retriever.invoke(query, **options),
        lambda retriever, query, **options: asyncio.run(retriever.ainvoke(query, **options)),
        lambda retriever, query, **options: retriever.batch(["other", query], **options)[1],
        lambda retriever, query, **options: asyncio.run(retriever.abatch(["other", query], **options))[1],
    ],
    ids=["invoke", "ainvoke", "batch", "abatch"],
)


@ways
def test_parents_come_once_in_the_order_of_their_best_chunks(ask):
    found_chunks = holding(split(parents()), "beet100", "apple3", "beet7", "apple200", "corn7")
    for chunk, score in zip(found_chunks, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True):
        chunk.metadata["relevance_score"] = score
    before = copy.deepcopy(found_chunks)
    found = ask(make(found_chunks), "q")
    assert [document.metadata["title"] for document in found] == ["Beet", "Apple", "Corn"]
    assert [document.page_content for document in found] == [TEXTS["beet"], TEXTS["apple"], TEXTS["corn"]]
    assert [document.id for document in found] == ["id-beet", "id-apple", "id-corn"]
    assert [document.metadata["relevance_score"] for document in found] == [0.9, 0.8, 0.5]
    context = found[0].metadata["context"]
    best = context["best_chunk"]
    assert context["chunks"] == [found_chunks[0].id, found_chunks[2].id]
    assert (best["id"], best["score"], best["text"]) == (found_chunks[0].id, 0.9, found_chunks[0].page_content)
    assert found[0].page_content[best["start"] :].startswith(best["text"])
    assert found_chunks == before
    assert [document.metadata["title"] for document in ask(make(found_chunks, k=2), "q")] == ["Beet", "Apple"]
    assert len(ask(make(found_chunks, k=2), "q", k=1)) == 1


def test_the_docstores_own_documents_are_not_changed():
    documents = parents(relevance_score=99, rerank="old")
    before = copy.deepcopy(documents)
    (found,) = make(holding(split(parents()), "apple3"), stored(documents)).invoke("q")
    assert documents == before
    assert "relevance_score" not in found.metadata, "a parent's stale score is none of this search"
    assert "rerank" not in found.metadata


chunk_choice = st.lists(st.integers(0, 500), min_size=1, max_size=12)


@given(chunk_choice, st.integers(0, 400), st.integers(0, 90), st.booleans())
def test_windows_hold_their_chunks_and_no_text_twice(choice, window, overlap, told):
    documents = parents()
    chunks = split(documents, overlap=overlap, add_start_index=told)
    chosen = [chunks[number % len(chunks)] for number in dict.fromkeys(choice)]
    chosen = list({chunk.id: chunk for chunk in chosen}.values())
    found = make(chosen, stored(documents), window=window).invoke("q")
    words = [word for document in found for word in document.page_content.split()]
    assert len(words) == len(set(words)), "no word twice, and none cut"
    assert set(words) <= set(" ".join(TEXTS.values()).split())
    by_id = {chunk.id: chunk for chunk in chosen}
    led = [id_ for document in found for id_ in document.metadata["context"]["chunks"]]
    assert sorted(led) == sorted(by_id), "no chunk is lost"
    order = [chunk.id for chunk in chosen]
    bests = [document.metadata["context"]["best_chunk"] for document in found]
    assert [order.index(best["id"]) for best in bests] == sorted(order.index(best["id"]) for best in bests)
    for document, best in zip(found, bests, strict=True):
        text, start = document.page_content, best["start"]
        assert text[start : start + len(best["text"])] == best["text"]
        assert text in TEXTS[document.metadata["doc_id"]]
        assert text == text.strip()
        ids = document.metadata["context"]["chunks"]
        assert ids == sorted(ids, key=order.index)
        for id_ in ids:
            assert by_id[id_].page_content in text
        if len(ids) == 1:
            whole = TEXTS[document.metadata["doc_id"]]
            begin = whole.index(best["text"])
            widest = whole[max(0, begin - window) : begin + len(best["text"]) + window]
            assert text in widest
            assert len(text) >= len(widest) - 2 * 14, "no more is cut off than a word and blanks at each end"
    assert len({document.id for document in found}) == len(found)


@ways
def test_neighbours_that_meet_become_one_passage(ask):
    chunks = split(parents(), add_start_index=True)
    first, second, far = chunks[0], chunks[1], chunks[8]
    found = ask(make([second, far, first], window=0), "q")
    assert [document.metadata["context"]["chunks"] for document in found] == [[second.id, first.id], [far.id]]
    start, end = first.metadata["start_index"], second.metadata["start_index"] + len(second.page_content)
    assert found[0].page_content == TEXTS["apple"][start:end]
    assert found[0].id == "apple#0"
    assert found[0].metadata["doc_id"] == "apple"
    (all_of_it,) = ask(make([second, far, first], window=10_000), "q")
    assert all_of_it.page_content == TEXTS["apple"].strip()


def test_scripts_without_blanks_have_windows_too():
    text = "".join(chr(0x4E00 + n) for n in range(1000))
    docstore = stored([Document(page_content=text, metadata={"doc_id": "han"})])
    chunk = Document(page_content=text[500:600], metadata={"doc_id": "han"})
    (found,) = make([chunk], docstore, window=50).invoke("q")
    assert found.page_content == text[450:650]


def test_a_start_index_in_another_text_is_not_believed():
    raw = [Document(page_content="\n\n".join(TEXTS.values()), metadata={})]
    middle = RecursiveCharacterTextSplitter(chunk_size=900, chunk_overlap=0, add_start_index=True).split_documents(raw)
    for number, document in enumerate(middle):
        document.metadata["doc_id"] = f"m{number}"
    small = split(middle)  # each says where its parent begins in the raw text
    (found,) = make([small[-1]], stored(middle), window=0).invoke("q")
    assert found.page_content == small[-1].page_content
    docstore = stored([Document(page_content="see page 7", metadata={"doc_id": "short"})])
    lying = Document(page_content="7", metadata={"doc_id": "short", "start_index": -1})
    assert make([lying], docstore, window=5).invoke("q")[0].page_content == "page 7"


@ways
@pytest.mark.parametrize("window", [None, 50])
def test_a_chunk_without_a_parent_is_returned_itself_and_said(ask, window, caplog):
    known, other = holding(split(parents()), "apple3", "beet7")
    orphan = Document(page_content="orphan", id="o", metadata={"doc_id": "gone"})
    stray = Document(page_content="stray", id="s")
    found = ask(make([orphan, known, stray, other], window=window), "q")
    assert [document.metadata.get("title", document.page_content) for document in found] == [
        "orphan",
        "Apple",
        "stray",
        "Beet",
    ]
    assert found[0] == orphan
    assert "2 of 4 chunks are returned themselves" in caplog.text
    assert "gone" not in caplog.text


def test_a_summary_leads_to_its_parent_but_has_no_window():
    summary = Document(page_content="All about apples.", id="summary", metadata={"doc_id": "apple"})
    (found,) = make([summary]).invoke("q")
    assert found.page_content == TEXTS["apple"]
    assert found.metadata["context"]["best_chunk"] == {"id": "summary", "text": "All about apples."}
    assert make([summary], window=100).invoke("q") == [summary]


def test_an_index_of_langchains_parent_retriever_can_be_used_with_a_reranker():
    embedding = DeterministicFakeEmbedding(size=16)
    theirs = ParentDocumentRetriever(
        vectorstore=FAISS(embedding),
        docstore=InMemoryStore(),
        child_splitter=RecursiveCharacterTextSplitter(chunk_size=200, chunk_overlap=40),
        parent_splitter=RecursiveCharacterTextSplitter(chunk_size=900, chunk_overlap=100),
    )
    theirs.add_documents([Document(page_content=text, metadata={"name": name}) for name, text in TEXTS.items()])
    reranked = ContextualCompressionRetriever(
        base_retriever=FusionRetriever(retrievers=[theirs.vectorstore.as_retriever(search_kwargs={"k": 500})]),
        base_compressor=LexicalReranker(),
    )
    retriever = ParentRetriever(base_retriever=reranked, docstore=theirs.docstore, k=2, window=100)
    best, second = retriever.invoke("beet123")
    assert "beet123" in best.page_content
    assert "beet123" in best.metadata["context"]["best_chunk"]["text"]
    assert best.metadata["rerank"]["rank"] == 1
    assert best.metadata["fusion"]["lists"]
    assert best.metadata["relevance_score"] > second.metadata["relevance_score"]
    (whole,) = ParentRetriever(base_retriever=reranked, docstore=theirs.docstore).invoke("beet123", k=1)
    assert whole.page_content in [
        document.page_content for document in theirs.docstore.mget(list(theirs.docstore.yield_keys()))
    ]


def test_the_key_may_be_any_field():
    documents = parents()
    docstore = InMemoryStore()
    docstore.mset([(document.metadata["title"], document) for document in documents])
    (found,) = make(holding(split(documents), "corn5"), docstore, id_key="title").invoke("q")
    assert found.page_content == TEXTS["corn"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_asks_retriever_and_docstore_once_and_errors_stay_apart(asynchronous):
    calls = []

    class Counting(InMemoryStore):
        def mget(self, keys):
            calls.append(list(keys))
            return super().mget(keys)

        async def amget(self, keys):
            return self.mget(keys)

    class Base(FixedRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            if query == "bad":
                raise TimeoutError
            return [document for document in self.documents if query in document.metadata.get("doc_id", "e")]

    stray = Document(page_content="has no key to ask for")
    docstore = Counting()
    docstore.mset([(document.metadata["doc_id"], document) for document in parents()])
    retriever = ParentRetriever(base_retriever=Base(documents=[*split(parents()), stray]), docstore=docstore)
    questions = ["apple", "bad", "e", "nothing"]
    with collect_runs() as collected:
        if asynchronous:
            answers = asyncio.run(retriever.abatch(questions, return_exceptions=True))
        else:
            answers = retriever.batch(questions, return_exceptions=True)
    assert [answer if isinstance(answer, Exception) else len(answer) for answer in answers[::2]] == [1, 3]
    assert isinstance(answers[1], TimeoutError)
    assert answers[3] == []
    assert calls == [["apple", "beet"]]
    failed = {run.inputs["input"]: run.error is not None for run in collected.traced_runs}
    assert failed == {"apple": False, "bad": True, "e": False, "nothing": False}
    assert [[child.name for child in run.child_runs] for run in collected.traced_runs] == [["Base"]] * 4


def test_a_reranker_of_chunks_runs_nested_and_mistakes_are_refused():
    reranker = FunctionReranker(function=lambda query, texts: [float(query in text) for text in texts], top_n=1)
    base = ContextualCompressionRetriever(
        base_retriever=FixedRetriever(documents=split(parents())), base_compressor=reranker
    )
    retriever = ParentRetriever(base_retriever=base, docstore=stored(parents()))
    with collect_runs() as collected:
        (found,) = retriever.invoke("corn250")
    assert found.metadata["title"] == "Corn"
    (run,) = collected.traced_runs
    assert [child.name for child in run.child_runs] == ["ContextualCompressionRetriever"]
    for fields in ({"window": -1}, {"k": 0}, {"docstor": 1}):
        with pytest.raises(ValidationError):
            make([], **fields)
    with pytest.raises(ValueError, match="at least 1"):
        retriever.invoke("q", k=0)


def test_a_key_that_cannot_be_one_leaves_its_chunk_and_the_other_questions_alone():
    odd = Document(page_content="odd", metadata={"doc_id": ["a", "b"]})
    retriever = ParentRetriever(base_retriever=FixedRetriever(documents=[odd]), docstore=InMemoryStore())
    assert [found[0].page_content for found in retriever.batch(["q", "r"])] == ["odd", "odd"]


def test_the_parents_of_the_docstore_are_not_the_callers():
    docstore = InMemoryStore()
    docstore.mset([("p", Document(page_content="parent", metadata={"nested": {"list": []}}))])
    chunk = Document(page_content="parent", metadata={"doc_id": "p"})
    retriever = ParentRetriever(base_retriever=FixedRetriever(documents=[chunk]), docstore=docstore)
    retriever.invoke("q")[0].metadata["nested"]["list"].append("changed")
    assert docstore.mget(["p"])[0].metadata == {"nested": {"list": []}}
