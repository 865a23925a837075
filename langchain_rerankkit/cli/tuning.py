"""``rerankkit tune``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.base import Reranker
from langchain_rerankkit.cli.evaluating import show
from langchain_rerankkit.cli.specs import add_allow
from langchain_rerankkit.cli.systems import DATASETS, SYSTEMS, Systems, read_dataset
from langchain_rerankkit.config import reranker_config

if TYPE_CHECKING:
    from langchain_rerankkit.tuning.report import Tuning

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "tune",
        help="find the best setting of rerankers for each budget of time, and write it as a configuration",
        description="Tries how deep rerankers read, which of them chooses for which, and how much each counts, on one half "
        "of the questions, and reports the best setting for each budget on the other half.",
        epilog=SYSTEMS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help=DATASETS)
    parser.add_argument("first", metavar="FIRST", help="the system that finds the candidates")
    parser.add_argument("rerankers", nargs="+", metavar="RERANKER", help="one to four, the cheapest first; see below")
    parser.add_argument(
        "--budget",
        type=float,
        action="append",
        default=[],
        metavar="SECONDS",
        help="what reranking may take for the median question; again for more (0.05, 0.2 and 1)",
    )
    parser.add_argument(
        "--depth",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="how many candidates are judged; again for more (10, 20, 50, 100, and all)",
    )
    parser.add_argument("--metric", default="ndcg@10", help="what is made as high as possible (ndcg@10)")
    parser.add_argument("--out", metavar="FOLDER", help="write a TOML file for each budget there")
    parser.add_argument("--share", type=float, default=0.5, help="share of the questions that choose (0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and all that is drawn (0)")
    parser.add_argument("--gold", choices=("auto", "documents", "answers"), default="auto", help="what to judge by")
    parser.add_argument("--match", choices=("words", "regex", "number"), help="judge by answers, matched so")
    parser.add_argument("--relevance", type=int, default=1, help="lowest grade that counts as relevant (1)")
    parser.add_argument("--identity", metavar="FIELD", help="metadata field that holds the id that gold names")
    add_allow(parser)
    parser.set_defaults(run=_tune)


def _tune(options: argparse.Namespace) -> None:
    from langchain_rerankkit.tuning.tune import tune

    if options.out:
        require("tomli_w", extra="config")  # a mistake is better said before everything is asked
    dataset = read_dataset(options.dataset)
    make = Systems(dataset, options.allow)
    _, first = make.named(options.first)
    rerankers = _rerankers(options, make)
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
    found = tune(
        dataset,
        first,
        rerankers,
        budgets=options.budget or (0.05, 0.2, 1.0),
        metric=options.metric,
        depths=options.depth or (10, 20, 50, 100),
        share=options.share,
        seed=options.seed,
        gold=options.gold,
        match=options.match,
        relevance=options.relevance,
        identity=options.identity,
    )
    show(found)
    if options.out:
        _save(found, options.out)


def _rerankers(options: argparse.Namespace, make: Systems) -> dict[str, Reranker]:
    from langchain_rerankkit.tuning.report import GIVEN_LATER

    rerankers: dict[str, Reranker] = {}
    for text in options.rerankers:
        name, reranker = make.named(text)
        if not isinstance(reranker, Reranker):
            msg = f"{name!r} is no reranker: after the first system, which finds the candidates, all must be."
            raise TypeError(msg)
        if name in rerankers:
            msg = f"Two rerankers are called {name!r}: write NAME=SPEC."
            raise ValueError(msg)
        if options.out:
            reranker_config(reranker, without=GIVEN_LATER)  # to fail at once
        rerankers[name] = reranker
    return rerankers


def _save(found: Tuning, folder: str) -> None:
    for path in found.save(folder):
        print(f"wrote {path}")
    for choice in found.choices:
        if choice.reranker is None:
            print(f"nothing written for within {choice.budget * 1e3:g} ms: no reranking")
