"""``rerankkit evaluate`` and ``rerankkit compare``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.cli.specs import add_allow
from langchain_rerankkit.cli.systems import DATASETS, SYSTEMS, Systems, read_dataset
from langchain_rerankkit.embedded.embeddings import EmbeddedEmbeddings

if TYPE_CHECKING:
    from langchain_rerankkit.evaluation.report import EvaluationReport, SystemResult

__all__ = ["add_commands", "show"]

_OF_AN_EVALUATION = (
    *("metric", "gold", "match", "relevance", "empty", "identity"),
    *("sample", "repeats", "concurrency", "engine", "run_dir"),
)


def add_commands(commands: Any) -> None:
    """Add the commands to a parser."""
    for name, what in (
        ("evaluate", "score systems against gold: quality, latency, cost, and what to be careful about"),
        ("compare", "hold systems against the first one: differences, intervals, significance, in words"),
    ):
        parser = commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=SYSTEMS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "dataset",
            help=f"{DATASETS}, or a report that --json wrote, which needs no systems",
        )
        parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="see below")
        add_allow(parser)
        parser.add_argument("--metric", action="append", default=[], help="such as ndcg@10; again for more")
        parser.add_argument("--gold", choices=("auto", "documents", "answers"), default="auto", help="what to judge by")
        parser.add_argument("--match", choices=("words", "regex", "number"), help="judge by answers, matched so")
        parser.add_argument("--relevance", type=int, default=1, help="lowest grade that counts as relevant (1)")
        parser.add_argument("--empty", choices=("exclude", "zero"), default="exclude", help="questions without gold")
        parser.add_argument("--identity", metavar="FIELD", help="metadata field that holds the id that gold names")
        parser.add_argument("--sample", type=int, metavar="N", help="ask only so many of the questions")
        parser.add_argument("--repeats", type=int, default=1, help="ask rerankers so often (1)")
        parser.add_argument("--concurrency", type=int, default=1, help="questions asked at a time (1)")
        parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where rerankers run")
        parser.add_argument("--run-dir", metavar="FOLDER", help="keep answers there, and go on from those that it has")
        parser.add_argument("--html", metavar="FILE", help="write one page that holds everything")
        parser.add_argument("--json", metavar="FILE", help="write the report, to be read again")
        parser.add_argument("--csv", metavar="FILE", help="write a line for each system and question")
        parser.add_argument(
            "--fail-under",
            action="append",
            default=[],
            metavar="[SYSTEM:]METRIC=VALUE",
            help="exit with status 1 where the system, the last one by default, scores less",
        )
        parser.set_defaults(run=_run, parser=parser, compare=name == "compare", baseline=None)
        if name == "compare":
            parser.add_argument("--baseline", metavar="NAME", help="hold against this one in place of the first")


def _run(options: argparse.Namespace) -> int:
    from langchain_rerankkit.evaluation.metrics import parse_metrics

    limits = [_limit(text) for text in options.fail_under]
    if limits:
        parse_metrics(metric for _, metric, _ in limits)  # a mistake is better said before everything is asked
    _check_outputs(options)
    report = _report(options, [metric for _, metric, _ in limits])
    show(report)
    if options.compare:
        print()
        show(report.compare(options.baseline))
    if options.json:
        report.save(options.json)
    if options.csv:
        report.to_csv(options.csv)
    if options.html:
        report.to_html(options.html)
    under = False
    for name, metric, least in limits:
        system = _named(report, name) if name else report.systems[-1]
        if metric not in system.scores:
            msg = f"The report has no {metric!r}; it has {', '.join(report.metrics)}."
            raise ValueError(msg)
        if not system.scores[metric] >= least:
            print(f"rerankkit: {system.name}: {metric} is {system.scores[metric]:.4f}, under {least}", file=sys.stderr)
            under = True
    return int(under)


def _check_outputs(options: argparse.Namespace) -> None:
    """What would fail in the end is better said before everything is asked."""
    for file in (options.html, options.json, options.csv):
        if file and not Path(file).absolute().parent.is_dir():
            msg = f"There is no folder for {file}."
            raise ValueError(msg)
    if options.html:
        require("plotly", extra="report")


def _named(report: EvaluationReport, name: str) -> SystemResult:
    try:
        return report[name]
    except KeyError as error:
        raise ValueError(error.args[0]) from error


def _report(options: argparse.Namespace, needed: list[str]) -> EvaluationReport:
    from langchain_rerankkit.evaluation.evaluate import evaluate
    from langchain_rerankkit.evaluation.metrics import DEFAULT_METRICS, parse_metrics
    from langchain_rerankkit.evaluation.report import EvaluationReport

    if not options.systems:
        if not options.dataset.endswith(".json"):
            msg = "Name at least one system to evaluate; see --help."
            raise ValueError(msg)
        unused = [name for name in _OF_AN_EVALUATION if getattr(options, name) != options.parser.get_default(name)]
        if unused:
            said = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
            msg = f"A saved report is finished: {said} belong to an evaluation, which needs systems."
            raise ValueError(msg)
        return EvaluationReport.load(options.dataset)
    dataset = read_dataset(options.dataset)
    make = Systems(dataset, options.allow)
    if options.sample is not None:
        dataset = dataset.sample(options.sample)
    systems: dict[str, Any] = {}
    for text in options.systems:
        name, system = make.named(text)
        if name in systems:
            msg = f"Two systems are called {name!r}: write NAME=SPEC."
            raise ValueError(msg)
        systems[name] = system
    if options.baseline is not None and options.baseline not in systems:
        msg = f"The baseline {options.baseline!r} is none of the systems: {', '.join(systems)}."
        raise ValueError(msg)
    metrics = list(dict.fromkeys([*(options.metric or DEFAULT_METRICS), *needed]))
    of_texts = any(metric.looks_at == "texts" for metric in parse_metrics(metrics).values())
    return evaluate(
        systems,
        dataset,
        metrics,
        gold=options.gold,
        match=options.match,
        relevance=options.relevance,
        empty=options.empty,
        identity=options.identity,
        repeats=options.repeats,
        concurrency=options.concurrency,
        run_dir=options.run_dir,
        engine=options.engine,
        embeddings=EmbeddedEmbeddings() if of_texts else None,
    )


def _limit(text: str) -> tuple[str, str, float]:
    what, _, value = text.rpartition("=")  # there may be others in a metric's name
    name, _, metric = what.rpartition(":")
    try:
        return name, metric, float(value)
    except ValueError as error:
        msg = f"{value!r} in {text!r} is not a number."
        raise ValueError(msg) from error


def show(shown: Any) -> None:
    """For a person with rich where it is installed, for a file or another program as Markdown."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ImportError:
            print(shown)
            return
        Console().print(shown)
        return
    print(shown)
