"""The command ``rerankkit``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pydantic import ValidationError

import langchain_rerankkit
from langchain_rerankkit.cli import evaluating, models, reranking, tuning
from langchain_rerankkit.errors import MissingExtraError, RerankKitError, mistakes

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the command; by default those of the process.

    Returns:
        The exit status: 0, 1 where a score is under what ``--fail-under`` asks, 2 with a sentence on standard error
        for a user's mistake, or 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Terminals that cannot show a character show a question mark instead of failing.
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("rerankkit: stopped. With --run-dir, the same command goes on from what was answered.", file=sys.stderr)
        return 130
    except ValidationError as error:
        print(f"rerankkit: {mistakes(error)}", file=sys.stderr)
        return 2
    except (RerankKitError, OSError, ValueError, TypeError) as error:
        print(f"rerankkit: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rerankkit", description="Rerankers for LangChain.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {langchain_rerankkit.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="retrieve, rerank and evaluate bundled documents")
    demo.set_defaults(run=_demo)
    reranking.add_commands(commands)
    evaluating.add_commands(commands)
    tuning.add_commands(commands)
    models.add_commands(commands)
    return parser


def _demo(_: argparse.Namespace) -> None:
    from langchain_rerankkit.demo import run_demo

    try:
        for paragraph in run_demo():
            print(paragraph, end="\n\n", flush=True)
    except MissingExtraError as error:  # one line for all that the demo needs, not one after the other
        raise MissingExtraError(error.module, "demo", error.reason) from error
