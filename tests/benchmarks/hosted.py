"""Throughput of `HostedReranker` beside a bare httpx loop that sends the same requests to the same server.

    python -m tests.benchmarks.hosted                     # throughput: rounds interleaved, medians
    python -m tests.benchmarks.hosted --load 2000         # so many concurrent calls, 5 % of the requests fail
    python -m tests.benchmarks.hosted --load 2000 --minutes 10

The server is the fake of Cohere's endpoint in a process of its own, 20 ms away. Under load it also answers 429 or 500,
hangs up in the middle of a body, or takes 2 s, each as often as the others. Load is measured on Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import gc
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from langchain_core.documents import Document

from langchain_rerankkit import HostedReranker
from tests.rerank_fakes import judge

WORDS = [f"word{number}" for number in range(2000)]


def made(documents: int, words: int, seed: int = 7) -> tuple[str, list[Document]]:
    """A query and documents of random words."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=words)) for _ in range(documents)]
    return " ".join(chance.choices(WORDS, k=8)), [Document(page_content=text) for text in texts]


@contextmanager
def server(*options: str, seen: dict[str, Any] | None = None):
    """URL of a fake server in a process of its own; ``seen`` holds in the end what it has seen."""
    command = [sys.executable, "-m", "tests.rerank_server", "cohere", *options]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            said = process.stdout.read()
            process.wait(10)
    if seen is not None:
        seen.update(json.loads(said))


async def bare(
    url: str, query: str, documents: list[Document], *, calls: int, at_once: int, top_n: int | None = None
) -> None:
    """What a careful person writes by hand: post, check the status, read indexes and scores, sort."""
    slots = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    more = {} if top_n is None else {"top_n": top_n}
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:

        async def one() -> None:
            async with slots:
                texts = [document.page_content for document in documents]
                body = {"model": "m", "query": query, "documents": texts, **more}
                answer = await client.post(f"{url}/v2/rerank", json=body)
                answer.raise_for_status()
                results = answer.json()["results"]
            results.sort(key=lambda result: result["relevance_score"], reverse=True)
            _ = [documents[result["index"]] for result in results]

        await asyncio.gather(*(one() for _ in range(calls)))


async def ours(reranker: HostedReranker, query: str, documents: list[Document], calls: int) -> None:
    async def one() -> None:
        await reranker.acompress_documents(documents, query)

    await asyncio.gather(*(one() for _ in range(calls)))
    await reranker.aclose()


def throughput(options: argparse.Namespace) -> None:
    print("| documents x words | top_n | at once | bare httpx, calls/s | HostedReranker, calls/s | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    with server("--latency", "0.02") as url:
        for count, words, top_n in ((10, 50, None), (20, 100, None), (100, 100, 5), (100, 100, None)):
            for at_once in (1, 8, 64):
                query, documents = made(count, words)
                calls = options.calls if at_once > 1 else options.calls // 5
                reranker = HostedReranker(
                    provider="cohere", model="m", base_url=url, max_concurrency=at_once, top_n=top_n
                )
                seconds: dict[str, list[float]] = {"bare": [], "ours": []}
                for number in range(options.rounds + 1):
                    for name in ("bare", "ours") if number % 2 else ("ours", "bare"):
                        start = time.perf_counter()
                        if name == "bare":
                            asyncio.run(bare(url, query, documents, calls=calls, at_once=at_once, top_n=top_n))
                        else:
                            asyncio.run(ours(reranker, query, documents, calls))
                        if number:  # the first round warms up
                            seconds[name].append(time.perf_counter() - start)
                rate = {name: calls / statistics.median(values) for name, values in seconds.items()}
                print(
                    f"| {count} x {words} | {top_n or 'all'} | {at_once} | {rate['bare']:.0f} | {rate['ours']:.0f} | "
                    f"{rate['ours'] / rate['bare']:.2f} |",
                    flush=True,
                )


# ---- load -----------------------------------------------------------------------------------------------------------

# A time-out below the 2 s of a slow answer tells more than one above: each slow answer is then a connection that is left
# in the middle of a request, and a retry, so that the retries must be exactly the faults that the server counts.
SETTINGS = {"max_concurrency": 64, "max_retries": 5, "timeout": 1.0}
FAULTS = ("429", "500", "cut", "slow")
HANDFUL = 8


@dataclass
class Question:
    """A query with documents of its own, and the ids and scores that the fake gives them, best first."""

    query: str
    documents: list[Document]
    verdict: list[tuple[str, float]]


def questions(count: int) -> list[Question]:
    asked = []
    for number in range(count):
        query, documents = made(10, 30, seed=number)
        for place, document in enumerate(documents):
            document.id = f"{number}-{place}"
        scores = [(document.id, judge(query, document.page_content)) for document in documents]
        asked.append(Question(query, documents, sorted(scores, key=lambda pair: -pair[1])))
    return asked


@dataclass
class Tally:
    """What came of calls; of each no more than a few numbers are kept.

    Attributes:
        calls: Calls that ended, well or not.
        failed: How often which error was raised.
        lost: Documents that did not come back.
        doubled: Documents that came back more than once.
        wrong: Calls with another order, another score or a document of another call.
        requests: What the usage in the metadata says.
        retries: The same.
        milliseconds: How many calls took so long.
    """

    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    requests: int = 0
    retries: int = 0
    milliseconds: Counter[int] = field(default_factory=Counter)
    lock: Any = field(default_factory=threading.Lock)

    def take(self, question: Question, outcome: list[Document] | Exception, seconds: float) -> None:
        with self.lock:
            self.calls += 1
            self.milliseconds[round(seconds * 1000)] += 1
            usage = {"requests": 0, "retries": 0}
            if isinstance(outcome, Exception):
                self.failed[f"{type(outcome).__name__}: {outcome}"] += 1
                usage = getattr(outcome, "rerank_details", {}).get("usage", usage)
            else:
                back = Counter(document.id for document in outcome)
                self.lost += sum(document.id not in back for document in question.documents)
                self.doubled += sum(count > 1 for count in back.values())
                said = [(document.id, document.metadata["relevance_score"]) for document in outcome]
                self.wrong += said != question.verdict
                usage = outcome[0].metadata["rerank"]["usage"] if outcome else usage
            self.requests += usage["requests"]
            self.retries += usage["retries"]

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the calls ended."""
        ordered = sorted(self.milliseconds)
        ended = list(itertools.accumulate(self.milliseconds[milliseconds] for milliseconds in ordered))
        return ordered[bisect.bisect_left(ended, share * self.calls)] / 1000


def memory() -> float:
    """MB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def descriptors() -> tuple[int, int]:
    """How many files this process has open, and how many of them are sockets."""
    targets = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only
        with suppress(FileNotFoundError):  # closed meanwhile, as that of this listing is
            targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    return len(targets), sum(target.startswith("socket:") for target in targets)


@dataclass
class Sample:
    minute: float
    calls: int
    memory: float
    files: int
    sockets: int


@dataclass
class Figures:
    """What a load did: to its calls, to this process, and to the server.

    Attributes:
        slots: Most requests at the same time.
        pending: Most calls at the same time.
        planned: Calls that were begun.
        tally: What came of them.
        seconds: How long all of them took.
        server: What the server has seen.
        memory: MB before the first call; and the most during them.
        sockets: Open sockets before the reranker was made, the most at any time, and when it was closed.
        samples: Of a soak, one a minute, between two waves.
    """

    slots: int = 0
    pending: int = 0
    planned: int = 0
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0
    server: dict[str, Any] = field(default_factory=dict)
    memory: tuple[float, float] = (0, 0)
    sockets: tuple[int, int, int] = (0, 0, 0)
    samples: list[Sample] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What is not as it must be, in words; empty if all is well.

        A slot has one connection, and opens another one only after it has closed its own, which it does when an answer
        was cut or came too late. So there are never more than slots, but for a handful whose end has yet to be noticed,
        and in all no more than slots and such answers (and, in a soak, those that were idle for 5 s). A call that waits
        may take 30 KB (three times as much with ``-X dev``, where asyncio remembers where each task was made).
        """
        tally, seen, faults = self.tally, self.server, self.server["faults"]
        asked = sum(faults.values())
        failing = sum(faults.get(name, 0) for name in FAULTS)
        most_in_all = math.inf if self.samples else self.slots + faults.get("cut", 0) + faults.get("slow", 0)
        before, most, after = self.sockets
        grown = self.memory[1] - self.memory[0]
        must = {
            f"{tally.calls} of {self.planned} calls ended": tally.calls == self.planned,
            f"{tally.failed.total()} calls failed: {dict(tally.failed.most_common(3))}": not tally.failed,
            f"{tally.lost} documents were lost": not tally.lost,
            f"{tally.doubled} documents came back twice": not tally.doubled,
            f"{tally.wrong} calls got another order or scores than the server gave": not tally.wrong,
            f"{tally.requests} requests by the metadata, {asked} by the server": tally.requests == asked,
            f"{tally.retries} retries, {failing} faults": tally.retries == failing > 0,
            f"{seen['most_at_once']} requests at once": seen["most_at_once"] <= self.slots + HANDFUL,
            f"{seen['most_connections']} connections at once": seen["most_connections"] <= self.slots + HANDFUL,
            f"{seen['connections']} connections in all": seen["connections"] <= most_in_all,
            f"{most - before} sockets at once": most - before <= self.slots + HANDFUL,
            f"{after - before} sockets left open": after == before,
            f"{grown:.0f} MB at most": grown <= 30 + 0.03 * self.pending,
        }
        for sample in self.samples[1:]:
            first = self.samples[0]
            grown, files = sample.memory - first.memory, sample.files - sample.sockets - (first.files - first.sockets)
            must |= {
                f"minute {sample.minute:.1f}: {grown:.1f} MB more than in the first": grown <= 5,
                f"minute {sample.minute:.1f}: {sample.sockets - before} sockets": sample.sockets <= before + self.slots,
                f"minute {sample.minute:.1f}: {files} files more than in the first": files <= 2,
            }
        return [problem for problem, well in must.items() if not well]


class Watch:
    """Looks at this process while a block runs, on a thread of its own."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self) -> None:
        while not self.over.wait(0.05):
            before, most, after = self.figures.sockets
            self.figures.sockets = before, max(most, descriptors()[1]), after
            self.figures.memory = self.figures.memory[0], max(self.figures.memory[1], memory())

    def __enter__(self) -> None:
        gc.collect()
        self.figures.memory = memory(), memory()
        before = descriptors()[1]
        self.figures.sockets = before, before, before
        self.start = time.perf_counter()
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.figures.seconds = time.perf_counter() - self.start
        self.over.set()
        self.thread.join()
        before, most, _ = self.figures.sockets
        self.figures.sockets = before, most, descriptors()[1]


@contextmanager
def loaded(seed: int = 7, **settings: Any) -> Iterator[tuple[HostedReranker, Figures]]:
    """A reranker for a server that fails now and then, and the figures, which are complete when the block has ended."""
    settings = SETTINGS | settings
    figures = Figures(slots=settings["max_concurrency"])
    with server("--latency", "0.02", "--faults", "0.05", "--seed", str(seed), seen=figures.server) as url:
        yield HostedReranker(provider="cohere", model="m", base_url=url, **settings), figures


async def wave(reranker: HostedReranker, asked: Sequence[Question], figures: Figures) -> None:
    """All questions at the same time."""

    async def one(question: Question) -> None:
        start = time.perf_counter()
        try:
            outcome = await reranker.acompress_documents(question.documents, question.query)
        except Exception as error:  # noqa: BLE001 - it is counted
            outcome = error
        figures.tally.take(question, outcome, time.perf_counter() - start)

    figures.planned += len(asked)
    figures.pending = max(figures.pending, len(asked))
    await asyncio.gather(*map(one, asked))


def load(calls: int, **settings: Any) -> Figures:
    """So many concurrent calls of one reranker."""
    asked = questions(calls)

    async def run(reranker: HostedReranker, figures: Figures) -> None:
        with Watch(figures):
            await wave(reranker, asked, figures)
            await reranker.aclose()

    with loaded(**settings) as (reranker, figures):
        asyncio.run(run(reranker, figures))
    return figures


def load_on_threads(threads: int, calls: int, **settings: Any) -> Figures:
    """So many threads, and so many calls of each, of one reranker."""
    asked = questions(threads * calls)

    def one(question: Question) -> None:
        start = time.perf_counter()
        try:
            outcome = reranker.compress_documents(question.documents, question.query)
        except Exception as error:  # noqa: BLE001 - it is counted
            outcome = error
        figures.tally.take(question, outcome, time.perf_counter() - start)

    with loaded(**settings) as (reranker, figures), Watch(figures):
        figures.planned, figures.pending = len(asked), threads
        figures.slots = min(figures.slots, threads)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, asked))
        reranker.close()
    return figures


def soak(calls: int, minutes: float, told: Callable[[Sample], None] = lambda _: None, **settings: Any) -> Figures:
    """Waves of so many concurrent calls of one reranker, until the time is over; ten samples if less than ten minutes."""
    pool = itertools.cycle(questions(calls * 10))

    async def run(reranker: HostedReranker, figures: Figures) -> None:
        with Watch(figures):
            start = time.monotonic()
            for number in itertools.count(1):
                while time.monotonic() < start + min(60, minutes * 6) * number:
                    await wave(reranker, list(itertools.islice(pool, calls)), figures)
                minute = (time.monotonic() - start) / 60
                figures.samples.append(Sample(minute, figures.tally.calls, memory(), *descriptors()))
                told(figures.samples[-1])
                if minute >= minutes:
                    break
            await reranker.aclose()

    with loaded(**settings) as (reranker, figures):
        asyncio.run(run(reranker, figures))
    return figures


def show(figures: Figures) -> None:
    tally, seen = figures.tally, figures.server
    before, most, after = figures.sockets
    latencies = [f"{tally.percentile(share):.2f}" for share in (0.5, 0.95, 0.99)]
    rows = {
        "calls": tally.calls,
        "seconds": f"{figures.seconds:.1f}",
        "calls/s": f"{tally.calls / figures.seconds:.0f}",
        "failed calls": tally.failed.total(),
        "documents lost": tally.lost,
        "documents doubled": tally.doubled,
        "calls with a wrong order or score": tally.wrong,
        "requests, by the metadata": tally.requests,
        "requests, by the server": sum(seen["faults"].values()),
        "retries, by the metadata": tally.retries,
        "faults, by the server": ", ".join(f"{seen['faults'].get(name, 0)} {name}" for name in FAULTS),
        "server: connections at once, in all": f"{seen['most_connections']}, {seen['connections']}",
        "server: requests at once": seen["most_at_once"],
        "sockets here: before, most, after": f"{before}, {most}, {after}",
        "memory here, most above the start, MB": f"{figures.memory[1] - figures.memory[0]:.1f}",
        "latency: median, p95, p99, s": ", ".join(latencies),
    }
    print("\n| figure | value |\n|---|--:|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    print("\nAll is well." if not figures.problems() else "\n".join(["", *figures.problems()]))


def show_sample(sample: Sample) -> None:
    print(
        f"| {sample.minute:.1f} | {sample.calls} | {sample.memory:.1f} | {sample.files} | {sample.sockets} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", type=int, metavar="CALLS", help="so many concurrent calls, 5 %% of the requests fail")
    parser.add_argument("--minutes", type=float, default=0, help="waves of a tenth of them, for so long")
    options = parser.parse_args()
    if not options.load:
        throughput(options)
        return
    if options.minutes:
        print("| minute | calls so far | memory, MB | open files | sockets |\n|--:|--:|--:|--:|--:|")
        figures = soak(options.load // 10, options.minutes, show_sample)
    else:
        figures = load(options.load)
    show(figures)
    sys.exit(bool(figures.problems()))


if __name__ == "__main__":
    main()
