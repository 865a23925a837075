"""Throughput of `HostedReranker` beside a bare httpx loop that sends the same requests to the same server.

    python -m tests.benchmarks.hosted                     # throughput: rounds interleaved, medians
    python -m tests.benchmarks.hosted --load 2000         # so many concurrent calls, 5 % of the requests fail
    python -m tests.benchmarks.hosted --load 2000 --minutes 10

The server is the fake of Cohere's endpoint in a process of its own, 20 ms away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
from langchain_core.documents import Document

from langchain_rerankkit import HostedReranker

WORDS = [f"word{number}" for number in range(2000)]


def made(documents: int, words: int, seed: int = 7) -> tuple[str, list[Document]]:
    """A query and documents of random words."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=words)) for _ in range(documents)]
    return " ".join(chance.choices(WORDS, k=8)), [Document(page_content=text) for text in texts]


@contextmanager
def server(*options: str):
    """URL of a fake server in a process of its own."""
    command = [sys.executable, "-m", "tests.rerank_server", "cohere", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


async def bare(
    url: str, query: str, documents: list[Document], calls: int, at_once: int, top_n: int | None = None
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
                            asyncio.run(bare(url, query, documents, calls, at_once, top_n))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    throughput(parser.parse_args())


if __name__ == "__main__":
    main()
