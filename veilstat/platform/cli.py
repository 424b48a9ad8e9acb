"""The command line: ``veilstat demo | plan | run | certificates | server | doctor``, and a deployment's processes."""

from __future__ import annotations

import json
import logging
import math
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from veilstat.errors import VeilstatError
from veilstat.statistics.registry import registry
from veilstat.statistics.results import Result

from .deployment.commands import add_commands
from .query import parse_query
from .study_file import load_study

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Statistics over several owners' joint data; nobody sees a row.",
)
_StudyFile = Annotated[Path, typer.Argument(help="a study in TOML: schema, architecture, owners")]
_Query = Annotated[str, typer.Argument(help="""such as 'mean("age")' or 'linear_regression("bp ~ age + bmi")'""")]


@app.command()
def demo() -> None:
    """Five insurers, one regression, nobody sees a row: the whole story on real data."""
    from .demo import run_demo

    run_demo(Console())


@app.command()
def plan(study: _StudyFile, query: _Query) -> None:
    """Show what a query would reveal to whom and what it would cost. Nothing is run."""
    typer.echo(str(load_study(study).plan(parse_query(query, registry()))))


@app.command()
def run(
    study: _StudyFile,
    query: _Query,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
    certificates: Annotated[Path | None, typer.Option(help="compute servers run elsewhere; the directory that `certificates` made")] = None,
) -> None:
    """Run a query on simulated owners and print the result."""
    result = load_study(study, certificates).run(parse_query(query, registry()))
    typer.echo(json.dumps(to_json(result), indent=2) if as_json else str(result))


@app.command()
def certificates(
    study: Annotated[Path, typer.Option(help="a study in TOML, with [addresses] of its compute servers")],
    out: Annotated[Path, typer.Option(help="the directory to write into")],
) -> None:
    """Make a roster for everybody, and for each party a file with its private key and certificate."""
    from .certificates import make_certificates
    from .deployment.transport_certificates import make_transport_certificates
    from .study_file import is_deployed

    for path in make_certificates(study, out, secrets.token_bytes):
        typer.echo(path)
    if is_deployed(study):
        for path in make_transport_certificates(study, datetime.now(UTC), secrets.token_bytes):
            typer.echo(path)


@app.command()
def server(config: Annotated[Path, typer.Option(help="a server in TOML: which party, roster and private file")]) -> None:
    """Serve one compute server of a study until SIGTERM; one line is logged for each event."""
    from .server import run_server

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run_server(config)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option(help="the file of a coordinator, an owner or a compute server, to look at besides")] = None,
) -> None:
    """Check versions, cryptography, optional parts, and a deployment's party, and say how to mend what is amiss."""
    from .deployment.inspect import inspect
    from .doctor import examine

    findings = examine() + ([] if config is None else inspect(config))
    table = Table("", "", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_well else "[red]!![/]" if finding.essential else "[yellow]--[/]"
        table.add_row(mark, finding.what, finding.found, finding.advice)
    Console().print(table)
    if any(finding.essential and not finding.is_well for finding in findings):
        raise typer.Exit(1)


def to_json(result: Result) -> dict[str, Any]:
    """A result as plain JSON: estimates by name, rows, plan, contributors, cost. What does not exist is null."""
    cost = result.cost
    return {
        "query": result.plan.title,
        "estimate": _plain(result.to_frame()),
        "n": _plain(result.n),
        "n_missing": _plain(result.n_missing),
        "contributors": list(result.contributors),
        "plan": result.plan.digest,
        "cost": None
        if cost is None
        else {"rounds": cost.rounds, "bytes_per_owner": cost.bytes_per_owner, "seconds": round(cost.seconds, 3)},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return {str(label): {str(key): _plain(entry) for key, entry in row.items()} for label, row in value.iterrows()}
    if isinstance(value, pd.Series):
        return {str(label): _plain(entry) for label, entry in value.items()}
    if value is None or isinstance(value, str):
        return value
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


add_commands(app)


def main() -> None:
    """Run a command; errors that veilstat raises are printed without a traceback."""
    try:
        app()
    except VeilstatError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]{type(error).__name__}[/] ", end="")
        typer.echo(str(error), err=True)
        raise SystemExit(1) from None
