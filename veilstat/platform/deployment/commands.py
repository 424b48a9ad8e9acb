"""The command line of a deployment's processes: ``veilstat init | owner | node | approvals | rows | coordinator | token | renew``."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from veilstat.errors import CapabilityError
from veilstat.transports.address import Address

from .approvals import Entry

Config = Annotated[Path, typer.Option(help="the file of this process (TOML)")]
approvals = typer.Typer(no_args_is_help=True, help="Queries that wait for a person at a data owner.")
rows = typer.Typer(no_args_is_help=True, help="Rows that others keep for a data owner, in shares or encrypted.")
Digest = Annotated[str, typer.Argument(help="the plan's digest, or its beginning")]


def add_commands(app: typer.Typer) -> None:
    """Add them to the program."""
    for command in (init, owner, node, coordinator, token, renew):
        app.command()(command)
    app.add_typer(approvals, name="approvals")
    app.add_typer(rows, name="rows")


def owner(config: Config) -> None:
    """Serve a data owner's agent until SIGTERM; it writes its own log beside what it remembers."""
    from .owner import run_owner

    run_owner(config)


def coordinator(config: Annotated[Path, typer.Option(help="the study's file, with [coordinator]")]) -> None:
    """Serve a study's coordinator and its gateway until SIGTERM."""
    try:
        from .coordinator import run_coordinator
    except ImportError:
        raise CapabilityError("a coordinator needs more than an analyst: pip install 'veilstat[deploy]'", code="not_installed") from None
    run_coordinator(config)


def node(
    owner: Annotated[str, typer.Option(help="whose node this is")],
    head: Annotated[str, typer.Option(help="where Ray's head listens, HOST:PORT")],
    address: Annotated[str, typer.Option(help="this node's own address, for which it has a certificate")],
    agent: Annotated[Path, typer.Option(help="the agent's socket")],
    certificates: Annotated[Path, typer.Option(help="the directory with ray-OWNER.pem and authority.pem")] = Path("private"),
    cluster: Annotated[Path, typer.Option(help="the file with the cluster's token (0600)")] = Path("private/ray.token"),
    directory: Annotated[Path | None, typer.Option(help="Ray's own: absolute, short; /tmp/veilstat-OWNER if none is given")] = None,
    ports: Annotated[int | None, typer.Option(min=1024, max=65_486, help="the first of 50 ports that Ray uses; its choice if none")] = None,
) -> None:
    """Run an owner's Ray node until SIGTERM; relays on it reach the agent's socket, under an account that reaches nothing else."""
    from .ray_cluster import node_command, node_environment, plain_environment
    from .ray_head import prepare_directory

    place = Path(f"/tmp/veilstat-{owner}") if directory is None else directory  # noqa: S108  # made 0700 and checked
    command = node_command(owner, Address.parse(head), address, place, ports)
    prepare_directory(place)
    os.execve(command[0], command, plain_environment(os.environ) | node_environment(owner, certificates, cluster, agent))


def token(
    name: Annotated[str, typer.Argument(help="whose token it is")], config: Annotated[Path, typer.Option(help="the study's file")]
) -> None:
    """Make an analyst's bearer token and print it once; only its hash is kept."""
    from .coordinator_file import load_coordinator_file
    from .tokens import issue_token

    typer.echo(issue_token(load_coordinator_file(config).tokens, name, secrets.token_bytes))


def init(
    out: Annotated[Path, typer.Option(help="an empty directory")],
    owners: Annotated[str, typer.Option(help="the data owners, separated by commas")] = "north,south,west",
    architecture: Annotated[str, typer.Option(help="masking, sharing or homomorphic")] = "masking",
    entry: Annotated[str, typer.Option(help="totals for every query, or rows: once, with sharing or homomorphic")] = "totals",
) -> None:
    """Write the commented files of a new deployment."""
    from .init import Layout, write_files

    for path in write_files(out, architecture, tuple(owners.split(",")), Layout(), entry):
        typer.echo(path)


def renew(config: Annotated[Path, typer.Option(help="the study's file, with [coordinator]")]) -> None:
    """Issue the certificates of the gateway and of Ray's machines anew; identities stay."""
    from .transport_certificates import renew_certificates

    for path in renew_certificates(config, datetime.now(UTC)):
        typer.echo(path)


@approvals.command("list")
def list_plans(config: Config) -> None:
    """Plans that wait, were granted or denied."""
    for entry in _ask("list", "", config):
        typer.echo(f"{entry.digest[:12]}  {entry.verdict:8}  {entry.asked}  {entry.title}")


@approvals.command()
def show(digest: Digest, config: Config) -> None:
    """What a plan would reveal to whom."""
    for entry in _ask("show", digest, config):
        typer.echo(entry.text)


@approvals.command()
def grant(digest: Digest, config: Config) -> None:
    """Permit one query of this plan."""
    for entry in _ask("grant", digest, config):
        typer.echo(f"granted {entry.title}, once")


@approvals.command()
def deny(digest: Digest, config: Config) -> None:
    """Refuse this plan, until it is granted."""
    for entry in _ask("deny", digest, config):
        typer.echo(f"denied {entry.title}")


@rows.command("share")
def share_rows(config: Config) -> None:
    """Share this owner's rows, in place of those that it shared before."""
    _send("share", config)


@rows.command("show")
def show_rows(config: Config) -> None:
    """Who holds which version of this owner's rows, and what may be asked of them."""
    _send("show", config)


@rows.command("withdraw")
def withdraw_rows(config: Config) -> None:
    """Take this owner's rows back: nothing more is answered about them."""
    _send("withdraw", config)


def _send(verb: str, config: Path) -> None:
    from .approvals_socket import send_errand
    from .owner_file import load_owner

    send_errand(str(load_owner(config).approvals), verb, typer.echo)


def _ask(verb: str, digest: str, config: Path) -> list[Entry]:
    from .approvals_socket import Command, ask_agent
    from .owner_file import load_owner

    return ask_agent(str(load_owner(config).approvals), Command(verb, digest))
