"""The page of a report at size: first paint, time to the list of questions, and time to search, filter and order it.

Run it as ``python -m tests.benchmarks.page``; it needs Debian's chromium and playwright. Medians of several loads.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from langchain_rerankkit.evaluation.page import write_page
from tests.pages import CHROMIUM, READY, launch, synthetic_report

LOADS = 5
# Work between an event and the frame that shows it.
STEPS = """async (steps) => {
  const times = {};
  for (const [name, id, value] of steps) {
    const node = document.getElementById(id);
    const start = performance.now();
    if (value === null) node.click();
    else {
      node.value = value;
      node.dispatchEvent(new Event(node.tagName === "SELECT" ? "change" : "input"));
    }
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    times[name] = performance.now() - start;
  }
  return times;
}"""
EVENTS = [
    ("filter: helped", "filter-helped", None),
    ("filter: hurt", "filter-hurt", None),
    ("filter: failed", "filter-failed", None),
    ("filter: all", "filter-all", None),
    ("search: a word", "search", "river"),
    ("search: cleared", "search", ""),
    ("order: lowest score", "order", "low"),
    ("order: largest gain", "order", "gain"),
]
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def measure(browser, path: Path) -> dict[str, float]:
    page = browser.new_context().new_page()
    start = time.perf_counter()
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector(f"html[{READY}]", state="attached", timeout=60_000)
    usable = (time.perf_counter() - start) * 1e3
    page.wait_for_selector(f"html[{READY}=all]", state="attached", timeout=60_000)
    drawn = (time.perf_counter() - start) * 1e3
    page.wait_for_timeout(500)
    figures = {"first paint": page.evaluate(PAINT), "list of questions": usable, "plots drawn": drawn}
    figures.update(page.evaluate(STEPS, EVENTS))
    page.context.close()
    return figures


def main(questions: int, systems: int, depth: int) -> None:
    report = synthetic_report(random.Random(0), questions, systems, depth)
    comparison = report.compare()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        start = time.perf_counter()
        path = write_page(report, Path(folder) / "page.html", comparison=comparison)
        seconds, size = time.perf_counter() - start, path.stat().st_size / 1e6
        print(f"{questions} questions x {systems} systems x {depth} documents, {CHROMIUM}")
        print(f"written in {seconds:.1f} s, {size:.1f} MB")
        browser = launch(playwright)
        loads = [measure(browser, path) for _ in range(LOADS)]
        for name in loads[0]:
            times = [load[name] for load in loads]
            print(f"{name:20} {statistics.median(times):7.0f} ms (worst {max(times):.0f})")
        browser.close()


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:]) if len(sys.argv) > 1 else (5000, 5, 100)))
