"""The methods that a script of this folder is asked to judge: what they all have in common on their command lines."""

from __future__ import annotations

import argparse

from nmfuse import Fuser


def add_methods(parser: argparse.ArgumentParser, default: tuple[str, ...]) -> None:
    """Add --methods."""
    parser.add_argument("--methods", default=",".join(default), help="comma-separated; see `nmfuse methods`")


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Add --network."""
    parser.add_argument(
        "--network", action="append", default=[], help="NAME=FILE: another network of the learned method"
    )


def networks(asked: list[str]) -> dict[str, Fuser]:
    """Return what fuses by each network that --network names."""
    pairs = (text.partition("=") for text in asked)
    return {name: Fuser(method="learned", weights=file) for name, _, file in pairs}


def fusers(args: argparse.Namespace) -> dict[str, Fuser]:
    """Return what fuses by each method of --methods, and by each network of --network."""
    return {name: Fuser(method=name) for name in args.methods.split(",")} | networks(args.network)
