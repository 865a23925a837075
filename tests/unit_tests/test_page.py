"""The page of a report, in a browser."""

import base64
import gzip
import json
import random
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_rerankkit.evaluation.page import write_page
from langchain_rerankkit.evaluation.report import EvaluationReport, SystemResult
from tests.pages import READY, launch, need_browser, synthetic_report

COMPLAINTS = "addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective}`))"


def small_report():
    """Two questions by hand: a move up, a gold document that nobody returns, a repeated document, a failure."""
    gold = {"q1": {"a": 2, "z": 1, "c": 0}, "q2": {"b": 1}}
    systems = {
        "first": {"q1": ["c", "b", "a", "d"], "q2": ["a", "b"]},
        "better": {"q1": ["a", "c", "b", "a"], "q2": []},
    }
    scores = {"first": {"q1": 0.25, "q2": 0.5}, "better": {"q1": 1.0, "q2": 0.0}}
    results = [
        SystemResult(
            name,
            {"mrr": sum(scores[name].values()) / 2},
            {"mrr": scores[name]},
            rankings,
            {id_: [0.123456 / (at + 1) for at in range(len(found))] for id_, found in rankings.items()},
            failures={"q2": "the server was away"} if name == "better" else {},
        )
        for name, rankings in systems.items()
    ]
    documents = {id_: f"The text of {id_}. " * 5 for id_ in "abcd"}
    return EvaluationReport(
        "small", 2, results, [], 1, {"q1": "One?", "q2": "Two?", "q3": "Not counted?"}, gold, documents
    )


@pytest.fixture(scope="module")
def browser():
    need_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


class Opened:
    """A page, and what it asked for and complained of."""

    def __init__(self, browser, path, address="", *, plots=True, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        if options.get("java_script_enabled", True):
            self.page.add_init_script(COMPLAINTS)
            if not plots:  # the browser is never idle, so they are not drawn: most tests need not wait for that
                self.page.add_init_script("window.requestIdleCallback = () => {}")
        self.page.goto(path.as_uri() + address)
        self.path = path

    def ready(self, what="all"):
        self.page.wait_for_selector(f"html[{READY}={what}]" if what == "all" else f"html[{READY}]", state="attached")
        self.page.wait_for_selector("#question > *")
        return self.page

    def close(self):
        assert not self.complaints
        assert {url.partition("#")[0] for url in self.requests if not url.startswith(("data:", "blob:"))} == {
            self.path.as_uri()
        }
        self.context.close()


@pytest.fixture
def open_page(browser, report, report_page, tmp_path):
    """Opens the page of a report; at the end nothing but the file was asked for, and nothing complained of."""
    opened = []

    def open_(shown, *, ready="explorer", address="", page_options=None, **options):
        if shown is report and not page_options:
            path = report_page
        else:
            path = write_page(shown, tmp_path / f"{len(opened)}.html", **(page_options or {}))
        opened.append(Opened(browser, path, address, plots=ready == "all", **options))
        return opened[-1].ready(ready) if options.get("java_script_enabled", True) else opened[-1].page

    yield open_
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def report():
    metrics = ("hit@1", "mrr@10", "ndcg@10", "map@10")
    return synthetic_report(random.Random(1), 60, systems=3, depth=30, metrics=metrics)


@pytest.fixture(scope="module")
def comparison(report):
    return report.compare()


@pytest.fixture(scope="module")
def report_page(report, comparison, tmp_path_factory):
    return write_page(report, tmp_path_factory.mktemp("page") / "page.html", comparison=comparison)


TALL = {"width": 1280, "height": 4000}  # so that the whole list is in sight


def shown_questions(page):
    """Texts of the questions in the list."""
    texts = page.locator(".option .title").all_inner_texts()
    assert page.locator("#found").inner_text().startswith(f"{len(texts)} of ")
    return texts


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_same_report_gives_the_same_file(report, tmp_path):
    first, second = (write_page(report, tmp_path / name) for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()


def test_wrong_options_are_refused(report, tmp_path):
    for options in ({"depth": 0}, {"characters": -1}):
        with pytest.raises(ValueError, match="depth must be at least 1"):
            write_page(report, tmp_path / "page.html", **options)


def test_no_text_ends_its_element(tmp_path):
    text = "</script><!--<script>&\u2028\u2029"
    first, second = small_report().systems
    report = replace(
        small_report(),
        dataset=text,
        systems=[replace(first, name=text), second],
        notes=[text],
        question_texts={"q1": text, "q2": text},
        documents={"a": text},
    )
    page = write_page(report, tmp_path / "page.html").read_text()
    plain = re.findall(r'<script type="application/json" id="head">(.*?)</script>', page, re.DOTALL)
    assert json.loads(plain[0])["baseline"] == text
    assert text not in page
    # The head, the questions, the scores, the page's own script, rankings, documents and Plotly: all else is text.
    assert page.count("<script") == page.count("</script>") == 7
    assert "<!--" not in page


def test_everything_is_drawn_from_one_file_without_complaint(open_page, report):
    page = open_page(report, ready="all")
    assert page.title() == "synthetic"
    assert page.locator(".plot svg.main-svg").count() >= 3
    page.locator("#view-all").click()
    page.locator("#view-more").click()
    page.locator("#pareto .plot").hover()
    with page.expect_download() as download:
        page.locator("#pareto .modebar-btn").click()
    assert download.value.suggested_filename == "plot.png"


def test_the_policy_lets_no_other_script_run(browser, report_page):
    opened = Opened(browser, report_page)
    page = opened.ready()
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.intruder = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.setAttribute('onerror', 'window.intruder = 2'); i.src = 'data:,';"
        "document.body.append(i); return fetch('http://127.0.0.1:1/').catch(() => 0) }"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.intruder") is None
    complaints = " ".join(opened.complaints)
    for directive in ("policy: script-src-elem", "policy: script-src-attr", "policy: connect-src"):
        assert directive in complaints
    opened.context.close()


def unpacked(path):
    """The head and the chunks of a page, read without a browser."""
    page = path.read_text()
    packed = re.findall(r'<script type="text/plain" id="([^"]*)">([^<]*)</script>', page)
    chunks = {name: gzip.decompress(base64.b64decode(text)).decode() for name, text in packed if name != "plotly"}
    head = re.findall(r'<script type="application/json" id="head">(.*?)</script>', page)[0]
    return json.loads(head), {name: json.loads(text) for name, text in chunks.items()}


IDS = st.sampled_from([f"d{number}" for number in range(12)]) | st.text(max_size=3)


@settings(max_examples=25)
@given(st.data())
def test_the_file_holds_the_first_places_of_every_ranking_and_every_place_of_what_is_followed(tmp_path_factory, data):
    questions = data.draw(st.lists(st.text(max_size=5), unique=True, min_size=1, max_size=4))
    depth = data.draw(st.integers(1, 6))
    gold = {id_: data.draw(st.dictionaries(IDS, st.integers(-1, 3), max_size=4)) for id_ in questions}
    systems = []
    for name in ("one", "two"):
        rankings = {id_: data.draw(st.lists(IDS, max_size=12)) for id_ in questions}
        scores = {id_: [1 / (3 + at) for at in range(len(found))] for id_, found in rankings.items()}
        per_question = {"mrr": {id_: data.draw(st.sampled_from([0.0, 0.1, 1 / 3])) for id_ in questions}}
        systems.append(SystemResult(name, {"mrr": 0.0}, per_question, rankings, scores))
    texts = {id_: id_ * 9 for id_ in {d for s in systems for found in s.rankings.values() for d in found}}
    report = EvaluationReport("any", len(questions), systems, [], 1, {}, gold, texts)
    path = write_page(report, tmp_path_factory.mktemp("any") / "page.html", depth=depth, characters=4)
    _, chunks = unpacked(path)
    assert set(chunks["questions"]["ids"]) == set(questions)
    ids = [id_ for name, part in chunks.items() if name.startswith("documents-") for id_ in part["ids"]]
    held = [text for name, part in chunks.items() if name.startswith("documents-") for text in part["texts"]]
    assert len(ids) == len(set(ids)), "each text is stored once"
    assert dict(zip(ids, held, strict=True)) == {id_: texts[id_][:5] if id_ in texts else None for id_ in ids}
    for question, packed in zip(chunks["questions"]["ids"], chunks["rankings-0"], strict=True):
        names = [ids[number] for number in packed["documents"]]
        grades = {names[at]: grade for at, grade in packed["grades"]}
        first = {id_ for system in systems for id_ in system.rankings[question][:depth]}
        followed = first | {id_ for id_, grade in gold[question].items() if grade > 0}
        assert grades == {id_: grade for id_, grade in gold[question].items() if id_ in followed}
        assert set(names) == followed
        for at, system in enumerate(systems):
            ranking = system.rankings[question]
            assert [names[document] for document, _ in packed["top"][at]] == ranking[:depth]
            assert [score for _, score in packed["top"][at]] == [
                float(f"{1 / (3 + n):.4g}") for n in range(len(ranking[:depth]))
            ]
            far = {names[document]: place for document, _, place in packed["far"][at]}
            assert far == {id_: ranking.index(id_) + 1 for id_ in followed & set(ranking) - set(ranking[:depth])}
            assert packed["length"][at] == len(ranking)
            scores = chunks["scores-0"][at][chunks["questions"]["ids"].index(question)]
            assert scores == system.per_question["mrr"][question]


# --- hostile data -----------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    '<a href="javascript:alert(1)">press</a> <b>bold</b><br>',
    "%{x} $\\alpha$ &lt;b&gt; &amp;",
    "\u202eright to left\u202c \u2066isolated",
    "control \x00\x07\x1b[31m\x7f characters",
    "lone \ud83d surrogate \udc00",
    "line\u2028separators\u2029here",
    "${alert(1)} `alert(1)` {{7*7}}",
    "__proto__",
    '<a href="#x">go</a>',
    "<b>bold</b>",
]


def seen(text):
    """As the page shows it: control characters as pictures of them, spaces as HTML has them."""
    shown = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda c: chr(0x2400 + ord(c[0])), text).replace("\x7f", "\u2421")
    return re.sub(r"[ \t\n]+", " ", shown).strip()


def hostile_report():
    names = {text: text for text in HOSTILE}
    gold = {question: {HOSTILE[at - 1]: 1} for at, question in enumerate(HOSTILE)}
    systems = []
    for at, name in enumerate(HOSTILE):
        rankings = dict.fromkeys(HOSTILE, HOSTILE[at:] + HOSTILE[:at])
        scores = {question: 1 / (1 + (place + at) % 5) for place, question in enumerate(HOSTILE)}
        failures = {} if at else {HOSTILE[3]: HOSTILE[2]}
        systems.append(
            SystemResult(
                name, {"mrr": 0.5, HOSTILE[0]: 0.5}, {"mrr": scores, HOSTILE[0]: scores}, rankings, failures=failures
            )
        )
    return EvaluationReport(
        HOSTILE[1], len(HOSTILE), systems, HOSTILE, 1, names, gold, {id_: id_ * 2 for id_ in HOSTILE}
    )


def test_hostile_names_ids_texts_and_notes_are_shown_and_do_nothing(open_page):
    page = open_page(hostile_report(), ready="all")
    assert page.title() == seen(HOSTILE[1])
    # In the HTML itself there can be no lone surrogates.
    written = [re.sub(r"[\ud800-\udfff]", "\ufffd", seen(text)) for text in HOSTILE]
    text_of = "(nodes) => nodes.map((node) => node.textContent.replace(/[ \\t\\n]+/g, ' ').trim())"
    assert page.locator(".notes li").evaluate_all(text_of) == written
    assert page.locator("#scores-title ~ .scroll tbody th").evaluate_all(text_of) == written
    page.locator("#order").select_option("dataset")
    for question in HOSTILE:
        at = HOSTILE.index(question)
        page.evaluate("(at) => document.getElementById('list').scrollTop = at * 54", at)
        page.locator(f"#option-{at}").click()
        page.wait_for_function(
            "(at) => document.querySelector('#question-title')?.dataset.question === String(at)", arg=at
        )
        same = "(text) => document.querySelector('#question-title').textContent.replace(/[ \\t\\n]+/g, ' ').trim() === text"
        # Compared in the page: lone surrogates do not pass between processes.
        assert page.evaluate(f"() => ({same})({json.dumps(seen(question))})")
    page.locator("#view-all").click()
    page.locator(".row").first.click()
    assert page.locator("dialog p.text").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".main-svg a").count() == 0
    labels = page.locator("#bars .ytick text").evaluate_all("(nodes) => nodes.map((node) => node.textContent)")
    for text, shown in zip([HOSTILE[5], *HOSTILE[-3:]], [labels[5], *labels[-3:]], strict=True):
        assert shown.startswith(f"{text} "), "Plotly reads neither tags nor entities in it"


# --- tables -----------------------------------------------------------------------------------------------------------


def test_tables_and_notes_are_readable_without_scripts(open_page, report, comparison):
    page = open_page(replace(report, notes=["Mind the gap."]), java_script_enabled=False)
    text = page.locator("body").inner_text()
    assert "Mind the gap." in text
    assert "need JavaScript" in text
    for system in report.systems:
        for metric in report.metrics:
            assert f"{system.scores[metric]:.3f}" in text
    for line in comparison.differences:
        assert str(line) in text
    assert not page.locator("#explorer").is_visible()
    assert not page.locator("#choice").is_visible()


def test_the_scores_sort_by_any_column_and_a_ceiling_stays_with_its_system(open_page, report):
    page = open_page(report)
    table = page.locator("#scores-title ~ .scroll table")
    heading = table.locator("thead th", has_text="ndcg@10")
    names = "(rows) => rows.map((row) => row.textContent)"
    for direction in ("descending", "ascending"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        best = sorted(report.systems, key=lambda s: s.scores["ndcg@10"], reverse=direction == "descending")
        expected = [row for s in best for row in ([s.name] if s.source else [s.name, f"{s.name}, best order"])]
        assert table.locator("tbody th").evaluate_all(names) == expected


def test_the_comparison_shows_the_chosen_metric_or_every_one(open_page, report, comparison):
    page = open_page(report)
    page.locator("#metric").select_option("mrr@10")
    findings = page.locator(".findings li:visible").all_inner_texts()
    assert findings == [str(line) for line in comparison.differences if line.metric == "mrr@10"]
    page.locator("#every-metric").check()
    assert page.locator(".findings li:visible").count() == len(comparison.differences)


# --- finding questions ------------------------------------------------------------------------------------------------


def test_helped_and_hurt_are_those_of_the_comparison_for_every_system_and_metric(open_page, report, comparison):
    page = open_page(report, viewport=TALL)
    for line in comparison.differences:
        page.locator("#metric").select_option(line.metric)
        page.locator("#system").select_option(line.system)
        page.wait_for_function("(n) => document.getElementById('count-helped').textContent === n", arg=str(line.wins))
        assert page.locator("#count-hurt").inner_text() == str(line.losses)
        assert page.locator("#count-failed").inner_text() == str(len(report[line.system].failures))
    page.locator("#metric").select_option("ndcg@10")
    for system in report.systems[1:]:
        page.locator("#system").select_option(system.name)
        for which in ("helped", "hurt"):
            page.locator(f"#filter-{which}").check()
            page.locator("#order").select_option("gain" if which == "helped" else "loss")
            expected = getattr(comparison, which)(system.name, "ndcg@10", most=1000)
            assert shown_questions(page) == [report.question_texts[id_] for id_, _ in expected]


def test_a_search_finds_all_words_in_text_or_id_in_any_case(open_page, report):
    page = open_page(report, viewport=TALL)
    page.locator("#order").select_option("dataset")
    page.locator("#search").fill("RIVER the")
    expected = [text for text in report.question_texts.values() if "river" in text.lower()]
    assert 0 < len(expected) < len(report.question_texts)
    assert shown_questions(page) == expected
    assert page.locator("#found").inner_text() == f"{len(expected)} of 60 questions"
    page.locator("#search").fill("q59")
    assert shown_questions(page) == [report.question_texts["q59"]]
    page.locator("#search").fill("nowhere")
    assert page.locator("#found").inner_text() == "0 of 60 questions"
    assert page.locator(".option").count() == 0


def test_questions_are_ordered_by_change_by_score_or_as_they_were(open_page, report):
    page = open_page(report, viewport=TALL)
    name = page.locator("#system option:checked").inner_text()
    score, before = report[name].per_question["ndcg@10"], report.baseline.per_question["ndcg@10"]
    keys = {
        "gain": lambda id_: before[id_] - score[id_],
        "loss": lambda id_: score[id_] - before[id_],
        "low": lambda id_: score[id_],
        "dataset": lambda id_: 0,
    }
    for order, key in keys.items():
        page.locator("#order").select_option(order)
        expected = sorted(report.question_texts, key=lambda id_: round(key(id_), 9))
        assert shown_questions(page) == [report.question_texts[id_] for id_ in expected]


def test_a_question_that_does_not_count_is_listed_last_and_said(open_page):
    page = open_page(small_report())
    last = page.locator(".option").last
    assert last.locator(".title").inner_text() == "Not counted?"
    assert last.locator(".change").inner_text() == "not counted"
    last.click()
    page.get_by_text("No gold document").wait_for()


def test_many_questions_are_few_elements(open_page):
    report = synthetic_report(random.Random(2), 2000, systems=2, depth=6, metrics=("ndcg@10",))
    page = open_page(report, ready="all")
    assert page.locator("#found").inner_text() == "2,000 of 2,000 questions"
    page.locator("#list").focus()
    page.keyboard.press("End")
    page.wait_for_selector(".option[aria-posinset='2000'][aria-selected=true]")
    assert page.locator(".option").count() < 40
    assert page.locator("#scatter .point").count() <= 800


# --- one question -----------------------------------------------------------------------------------------------------


def columns(page):
    """For each column shown: its documents' ids by the middle of their buttons, and ends of lines likewise."""
    return page.evaluate("""() => {
      const box = (node) => node.getBoundingClientRect();
      const rows = (column) => [...column.querySelectorAll('.row')].map((row) => ({
        id: row.querySelector('.name bdi').textContent, label: row.querySelector('.hidden').textContent, y: box(row).top + box(row).height / 2,
        left: box(row).left, right: box(row).right }));
      const lines = (svg) => [...svg.querySelectorAll('path')].map((path) => {
        const at = (length) => { const p = path.getPointAtLength(length); return [box(svg).left + p.x, box(svg).top + p.y] };
        return { from: at(0), to: at(path.getTotalLength()), kind: path.getAttribute('class') };
      });
      const grid = document.querySelector('.rankings');
      return [[...grid.querySelectorAll('.ranking')].map(rows), [...grid.querySelectorAll('svg')].map(lines)];
    }""")


def test_lines_connect_each_documents_places(open_page, report):
    page = open_page(report, viewport={"width": 1500, "height": 900})
    page.locator("#order").select_option("dataset")
    page.locator("#view-all").click()
    page.locator("#option-1").click()
    page.wait_for_function("() => document.querySelector('#question-title').dataset.question === '1'")
    found, bridges = columns(page)
    assert [[row["id"] for row in rows][:10] for rows in found] == [list(s.rankings["q1"][:10]) for s in report.systems]
    gold = {id_ for id_, grade in report.gold["q1"].items() if grade > 0}
    for left, right, lines in zip(found[:-1], found[1:], bridges, strict=True):
        ends = set()
        for line in lines:
            start = next(row for row in left if abs(row["y"] - line["from"][1]) < 1)
            end = next(row for row in right if abs(row["y"] - line["to"][1]) < 1)
            assert start["id"] == end["id"]
            before, after = (
                int(row["label"].split()[1].strip(",")) if row["label"][0] == "p" else 999 for row in (start, end)
            )
            kind = "gold" if start["id"] in gold else "up" if after < before else "down" if after > before else "same"
            assert line["kind"] == (f"{kind} missing" if 999 in (before, after) else kind)
            assert abs(line["from"][0] - start["right"]) < 2
            assert abs(line["to"][0] - end["left"]) < 2
            ends.add(start["id"])
        assert ends == {row["id"] for row in left} & {row["id"] for row in right}
        assert {row["id"] for row in left[:10]} | {row["id"] for row in right[:10]} <= ends
    for system, rows in zip(report.systems, found, strict=True):
        for row in rows:
            ranking = list(system.rankings["q1"])
            place = f"place {ranking.index(row['id']) + 1}" if row["id"] in ranking else "not returned"
            assert row["label"].split(", ")[0] == place


def test_places_moves_gold_repeats_and_what_is_missing_are_told(open_page):
    page = open_page(small_report())
    page.locator("#option-0").click()
    (first, better), _ = columns(page)
    assert [row["label"] for row in first] == [
        "place 1, document c, judged not relevant, score 0.1235",
        "place 2, document b, score 0.06173",
        "place 3, document a, gold, grade 2, score 0.04115",
        "place 4, document d, score 0.03086",
        "not returned, document z, gold, grade 1",
    ]
    assert [row["label"] for row in better] == [
        "place 1, document a, gold, grade 2, up 2 from the baseline, score 0.1235",
        "place 2, document c, judged not relevant, down 1 from the baseline, score 0.06173",
        "place 3, document b, down 1 from the baseline, score 0.04115",
        "place 4, document a, gold, grade 2, again, score 0.03086",
        "not returned, document z, gold, grade 1",
        "not returned, document d",
    ]
    rows = page.locator("#question .scroll tbody tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [["a", "★ 2", "3", "1"], ["z", "★ 1", "not returned", "not returned"]]


def test_a_failure_is_shown_with_its_reason(open_page):
    page = open_page(small_report(), viewport=TALL)
    page.locator("#filter-failed").check()
    assert shown_questions(page) == ["Two?"]
    page.locator(".option").click()
    page.locator(".failure").wait_for()
    assert page.locator(".failure").inner_text() == "failed: the server was away"
    assert "failed" in page.locator("#question .scroll tbody tr").inner_text()


def test_a_documents_text_is_shown_on_demand_and_says_that_it_was_cut(open_page):
    page = open_page(small_report(), page_options={"characters": 20})
    page.locator("#option-0").click()
    page.locator(".row").first.click()
    dialog = page.locator("dialog")
    assert dialog.locator("p.text").inner_text() == ("The text of c. " * 5)[:20]
    assert "cut to 20 characters" in dialog.inner_text()
    assert dialog.locator("tbody tr").all_inner_texts() == ["first\t1\t0.1235", "better\t2\t0.06173"]
    page.keyboard.press("Escape")
    page.locator(".row", has_text="z").first.click()
    assert "holds no text" in dialog.locator("p.text").inner_text()
    assert "null" not in dialog.inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Close"


def test_depth_cuts_rankings_and_keeps_the_places_of_gold(open_page, report):
    page = open_page(report, page_options={"depth": 3})
    assert "to place 3" in page.locator("footer").inner_text()
    (first, _), _ = columns(page)
    id_ = next(
        id_ for id_, text in report.question_texts.items() if text == page.locator("#question-title").inner_text()
    )
    ranking = list(report.baseline.rankings[id_])
    assert [row["id"] for row in first[:3]] == ranking[:3]
    for document in report.gold[id_]:
        place = f"place {ranking.index(document) + 1}" if document in ranking else "not returned"
        assert any(row["id"] == document and row["label"].startswith(place + ",") for row in first)


# --- plots ------------------------------------------------------------------------------------------------------------


def test_marks_hold_every_question_and_lead_to_them(open_page, report, comparison):
    page = open_page(report, ready="all", viewport=TALL)
    tallies = page.locator("#scatter details tbody td:nth-child(2)").all_text_contents()
    line = comparison[report.systems[1].name, "ndcg@10"]
    assert [int(tally) for tally in tallies] == [line.wins, line.ties, line.losses]
    page.locator("#scatter .plot").focus()
    page.keyboard.press("ArrowRight")
    said = page.locator("#scatter [role=status]").text_content()
    assert said.startswith("1 of ")
    page.keyboard.press("Enter")
    page.wait_for_selector("#filter-picked:checked")
    assert page.evaluate("document.activeElement.id") == "list"
    picked = shown_questions(page)
    assert f": {len(picked)} question" in said
    best = comparison.helped(line.system, "ndcg@10", most=len(picked))
    assert picked == [report.question_texts[id_] for id_, _ in best]
    page.locator("#filter-all").check()
    # With the pointer: the mark of the largest loss, the last one.
    page.locator("#scatter .point").last.click(force=True)
    page.wait_for_selector("#filter-picked:checked")
    lost = {report.question_texts[id_] for id_, _ in comparison.hurt(line.system, "ndcg@10", most=60)}
    assert set(shown_questions(page)) <= lost


def test_each_plot_has_a_table_that_says_the_same(open_page, report):
    page = open_page(report, ready="all")
    page.locator("#metric").select_option("map@10")
    page.wait_for_function("() => document.querySelector('#bars caption').textContent === 'map@10'")
    rows = page.locator("#bars details tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert [(row[0], row[1]) for row in rows] == [(s.name, f"{s.scores['map@10']:.3f}") for s in report.systems]
    for _, mean, low, high, _ in rows:
        assert float(low) <= float(mean) <= float(high)
    times = page.locator("#pareto details tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert [row[3] for row in times] == ["\u2013", "180.0", "20.0"]
    assert times[0][4] == "yes", "the fastest is on the front"


def test_systems_without_times_are_said(open_page):
    page = open_page(small_report(), ready="all")
    assert page.locator("#pareto .sentence").inner_text() == "No system was timed."


# --- by keyboard, by ear, on paper ------------------------------------------------------------------------------------


def test_the_questions_can_be_walked_by_keyboard_alone(open_page, report):
    page = open_page(report)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("river")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "list"
    first = page.locator(".option").first.locator(".title").inner_text()
    page.wait_for_function("(text) => document.querySelector('#question-title').textContent === text", arg=first)
    page.keyboard.press("ArrowDown")
    chosen = page.locator(".option[aria-selected=true]")
    assert chosen.get_attribute("aria-posinset") == "2"
    assert page.locator("#list").get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("End")
    total = page.locator("#found").inner_text().split(" ")[0]
    assert page.locator(".option[aria-selected=true]").get_attribute("aria-posinset") == total
    page.keyboard.press("Home")
    page.wait_for_function("(text) => document.querySelector('#question-title').textContent === text", arg=first)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('row')"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "the focus is seen"
    assert page.locator("path.lit").count() > 0, "its lines are made out"
    page.keyboard.press("Enter")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('row')"), "the focus comes back"


def test_the_address_keeps_the_question_the_system_and_the_metric(open_page, report):
    page = open_page(report, address="#metric=mrr%4010&system=FlashRank+TinyBERT&question=q42")
    assert page.locator("#question-title").inner_text() == report.question_texts["q42"]
    assert page.locator("#metric option:checked").inner_text() == "mrr@10"
    assert page.locator("#system option:checked").inner_text() == "FlashRank TinyBERT"
    page.locator("#list").focus()
    page.keyboard.press("Home")
    text = page.locator(".option[aria-selected=true] .title").inner_text()
    id_ = next(id_ for id_, known in report.question_texts.items() if known == text)
    page.wait_for_url(f"**question={id_}")
    page.evaluate("location.hash = '#question=q7'")
    page.wait_for_function(
        "(text) => document.querySelector('#question-title').textContent === text", arg=report.question_texts["q7"]
    )


NAMELESS = """() => [...document.querySelectorAll('button, select, input, [role=listbox], [role=application], [role=region], figure, dialog')]
  .filter((node) => {
    const by = node.getAttribute('aria-labelledby');
    const name = node.getAttribute('aria-label') || (by && document.getElementById(by)?.textContent)
      || [...(node.labels ?? [])].map((label) => label.textContent).join('') || (node.tagName === 'BUTTON' && node.textContent);
    return !name?.trim();
  }).map((node) => node.outerHTML.slice(0, 100))"""


def test_everything_has_a_name_and_headings_follow_each_other(open_page, report):
    page = open_page(report, ready="all")
    page.locator("#view-all").click()
    page.locator(".row").first.click()
    assert page.evaluate(NAMELESS) == []
    levels = page.locator("h1, h2, h3, h4").evaluate_all("(nodes) => nodes.map((node) => Number(node.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    for landmark in ("header", "main", "footer", "html[lang=en]", "[role=status]"):
        assert page.locator(landmark).count() >= 1
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0


# Every element with text of its own: the contrast of its colour with the nearest background.
CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data] };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => { for (; node; node = node.parentElement) { const c = rgba(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c } return [255, 255, 255, 255] };
  return [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility() && [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
    .map((node) => {
      const style = getComputedStyle(node), svg = node.namespaceURI.endsWith('svg');
      const [a, b] = [light(rgba(svg ? style.fill : style.color)), light(behind(node))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), node.textContent.slice(0, 40), node.className.toString()];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(open_page, report, scheme):
    page = open_page(report, ready="all", color_scheme=scheme)
    page.locator(".row").first.hover()
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [entry for entry in contrasts if entry[0] < 4.5] == []


def test_dark_and_light_follow_the_system_and_the_button(open_page, report):
    page = open_page(report, ready="all", color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    ticks = "getComputedStyle(document.querySelector('#bars .ytick text')).fill"
    dark, dark_ticks = page.evaluate(paper), page.evaluate(ticks)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"() => {ticks} !== '{dark_ticks}'")
    light = page.evaluate(paper)
    assert light == "rgb(255, 255, 255)" != dark
    page.locator("#theme").click()
    assert page.evaluate(paper) == dark
    page.wait_for_function(f"() => {ticks} === '{dark_ticks}'")
    page.locator("#theme").click()
    assert page.evaluate(paper) == light


def test_on_paper_it_is_light_and_without_controls(open_page, report):
    page = open_page(report, ready="all", color_scheme="dark")
    width = page.locator("#bars svg").first.get_attribute("width")
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.wait_for_function("(width) => document.querySelector('#bars svg').getAttribute('width') === width", arg=width)
    # What the browser does around a print, step by step.
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function("() => document.querySelector('#bars svg').getAttribute('width') === '660'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("#theme", "#choice", "#finder", ".controls"):
        assert not page.locator(control).is_visible()
    for content in ("#scores-title", "#comparison table", "#pareto .main-svg >> nth=0", "#question-title", ".rankings"):
        assert page.locator(content).is_visible()
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") is None


def test_a_narrow_screen_needs_no_scrolling_sideways(open_page, report):
    page = open_page(report, ready="all", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_browser_that_cannot_unpack_says_so(browser, report_page):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(report_page.as_uri())
    page.locator("#plots-state", has_text="cannot be shown: DecompressionStream is not defined").wait_for()
    assert page.locator("#comparison table").is_visible()
    context.close()


# --- little to show ---------------------------------------------------------------------------------------------------


def test_one_system_is_shown_without_comparison(open_page, report):
    page = open_page(replace(report, systems=report.systems[:1]), ready="all")
    assert page.locator("#comparison").count() == 0
    assert page.locator("#found").inner_text() == "60 of 60 questions"
    assert page.locator(".ranking").count() == 1
    assert "one system" in page.locator("#scatter .sentence").inner_text()


def test_a_report_without_texts_gold_and_questions_opens(open_page):
    bare = [
        replace(system, rankings={}, per_question={"mrr": {}}, scores={"mrr": float("nan")}, failures={})
        for system in small_report().systems
    ]
    page = open_page(EvaluationReport("nothing", 0, bare), ready="all")
    assert page.locator("#found").inner_text() == "0 of 0 questions"


def test_another_baseline_is_kept(open_page, report):
    other = report.systems[2].name
    page = open_page(report, page_options={"comparison": report.compare(other)})
    assert page.locator("#baseline").inner_text() == other
    assert page.locator(".ranking h4").first.inner_text() == other
    assert other not in page.locator("#system option").all_inner_texts()
