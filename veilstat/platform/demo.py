"""The demo: five insurers' real data, statistics beside the pooled answer, and what the server saw of it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table

from veilstat.architectures.homomorphic import Homomorphic
from veilstat.architectures.masking import Masking
from veilstat.architectures.sharing import Sharing
from veilstat.errors import CapabilityError
from veilstat.schema.schema import Schema
from veilstat.statistics.moments import Mean
from veilstat.statistics.quantile import Quantile
from veilstat.statistics.regression import LinearRegression
from veilstat.statistics.regression_results import LinearResult
from veilstat.transports.memory import Dropout

from .plan_text import disclosure_table, size
from .simulation import simulate
from .study import Study

OWNERS = ("alder", "birch", "cedar", "dogwood", "elm")
_COVARIATES = ("lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp")
FORMULA = "mdvis ~ " + " + ".join(_COVARIATES)
WIDTH = 116


def example_folder() -> Path:
    """Where the example's files are: inside the installed package, or beside it in a checkout."""
    packaged = Path(str(files("veilstat"))) / "examples" / "insurers"
    return packaged if packaged.is_dir() else Path(str(files("veilstat"))).parent / "examples" / "insurers"


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """One insurer's rows each."""
    return {name: pd.read_csv(folder / "data" / f"{name}.csv") for name in OWNERS}


def run_demo(console: Console) -> None:
    """Tell the story."""
    console.width = min(console.width, WIDTH)
    schema = Schema.from_toml(example_folder() / "schema.toml")
    tables = load_tables(example_folder())
    study = simulate(tables, schema, Masking(colluding=1))
    rows = schema.quantise(pd.concat(tables.values(), ignore_index=True))
    _opening(console, schema, tables)
    _show_plan(console, study)
    _simple_statistics(console, study, rows)
    _regression(console, study, rows)
    _what_the_server_saw(console, study, tables)
    _dropout(console, tables, schema)
    _encrypted(console, tables, schema, study)
    _sealed(console, tables, schema, study)


def _title(console: Console, text: str) -> None:
    console.rule(f"[bold]{text}")
    console.print()


def _say(console: Console, text: str) -> None:
    console.print(Markdown(text))
    console.print()


def _show(console: Console, text: str) -> None:
    """Text that was laid out already."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)
    console.print()


def _list(console: Console, lines: Iterable[str]) -> None:
    console.print(Padding("\n".join(f"* {line}" for line in lines), (0, 0, 1, 2)), highlight=False)


def _tabulate(console: Console, table: Table) -> None:
    console.print(table)
    console.print()


def _opening(console: Console, schema: Schema, tables: dict[str, pd.DataFrame]) -> None:
    _title(console, "Five insurers, one question, nobody sees a row")
    _say(
        console,
        "Does a coinsurance rate keep people from seeing a doctor? Five insurers hold the 20,190 person-years of the RAND Health "
        "Insurance Experiment between them. None may show its rows to another, nor to anybody else. First they agree, publicly, on what "
        "the columns are:",
    )
    _show(console, str(schema))
    counts = ", ".join(f"{name} {len(table):,}" for name, table in tables.items())
    _say(console, f"Rows: {counts}. A number that is not agreed on here (a bound, a level) is never taken from the data.")


def _show_plan(console: Console, study: Study) -> None:
    _title(console, "Before: what a query will reveal, computed from its arithmetic")
    _show(console, str(study.plan(LinearRegression(FORMULA))))
    _say(
        console,
        "Every insurer computes this plan for itself and agrees to its digest before anything runs; what the plan does not list is refused.",
    )


def _simple_statistics(console: Console, study: Study, rows: pd.DataFrame) -> None:
    _title(console, "Simple statistics, beside the pooled answer")
    table = _beside("")
    names = ["mdvis", "disea", "lncoins"]
    columns = rows[names].astype(float)
    mean, deviation, correlation = study.mean(names), study.std(names), study.correlation(["mdvis", "disea"])
    for name in names:
        _compare(table, f"mean of {name}", mean.estimate[name], columns[name].mean())
    for name in names:
        _compare(table, f"standard deviation of {name}", deviation.estimate[name], columns[name].std())
    _compare(table, "correlation of mdvis and disea", correlation.estimate.loc["mdvis", "disea"], columns["mdvis"].corr(columns["disea"]))
    by_plan = study.groupby("idp").mean("mdvis")
    for level in (0, 1):
        _compare(table, f"mean of mdvis where idp = {level}", by_plan.estimate[level], columns["mdvis"][rows["idp"] == level].mean())
    histogram = study.histogram("mdvis", bins=[0, 1, 2, 5, 10, 100])
    for label, count, pooled in zip(
        histogram.estimate.index, histogram.estimate, np.histogram(columns["mdvis"], [0, 1, 2, 5, 10, 100])[0], strict=True
    ):
        _compare(table, f"rows with mdvis in {label}", int(count), int(pooled))
    _tabulate(console, table)
    low, high = mean.conf_int().loc["mdvis"]
    _say(console, f"Mean visits, with a 95 % interval: {mean.estimate['mdvis']:.4f} ({low:.4f} to {high:.4f}).")


def _beside(first: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for title in ("private", "pooled rows", "difference"):
        table.add_column(title, justify="right")
    return table


def _compare(table: Table, label: str, private: float, pooled: float) -> None:
    digits = "," if isinstance(private, int) else ".6f"
    difference = abs(private - pooled)
    table.add_row(label, format(private, digits), format(pooled, digits), "none" if difference == 0 else f"{difference:.0e}")


def _regression(console: Console, study: Study, rows: pd.DataFrame) -> None:
    _title(console, "A regression on nine covariates, from one secure sum of all moments")
    result = study.linear_regression(FORMULA)
    _show(console, str(result))
    design = np.column_stack([np.ones(len(rows)), rows[list(_COVARIATES)].to_numpy(dtype=float)])
    pooled = np.linalg.lstsq(design, rows["mdvis"].to_numpy(dtype=float), rcond=None)[0]
    table = _beside("coefficient")
    for term, private, reference in zip(result.params.index, result.params, pooled, strict=True):
        _compare(table, str(term), float(private), float(reference))
    _tabulate(console, table)
    cost = result.cost
    assert cost is not None
    _say(
        console,
        "Pooled rows were solved by least squares in float64; the private answer is exact, since sums of integers lose nothing and the equations "
        f"are solved over the rationals. It took {cost.rounds} rounds, "
        f"{size(cost.bytes_per_owner)} per insurer and {cost.seconds:.2f} seconds; a gradient descent on the same covariates opens one gradient per iteration:",
    )
    _descent(console, study, result)
    _say(
        console,
        "**Caveat.** The rows are repeated person-years and the public file has no identifier, so standard errors that take rows for "
        "independent are too small. No cryptography mends that.",
    )


def _descent(console: Console, study: Study, exact: LinearResult) -> None:
    descent = study.linear_regression(FORMULA, method="gradient_descent", max_iterations=500)
    worst = float(np.max(np.abs(descent.params.to_numpy() / exact.params.to_numpy() - 1)))
    assert descent.cost is not None
    _list(
        console,
        [
            f"gradient descent: {descent.iterations} iterations, coefficients within {worst:.0e} of the exact ones, "
            f"{size(descent.cost.bytes_per_owner)} per insurer, {descent.cost.seconds:.1f} seconds"
        ],
    )


def _what_the_server_saw(console: Console, study: Study, tables: dict[str, pd.DataFrame]) -> None:
    _title(console, "What the server saw of it")
    fresh = simulate(tables, study.schema, study.definition.architecture)
    query = Mean("mdvis")
    result = fresh.run(query)
    table = Table(
        "insurer", "its rows", "its visits", "what it sent: rows, visits, squares, as the server saw them", box=None, pad_edge=False
    )
    for envelope in fresh.observed["server"].envelopes:
        if envelope.round == "masked_input":
            words = np.frombuffer(envelope.payload, dtype="<u4")
            visits = int(tables[envelope.sender]["mdvis"].sum())
            table.add_row(
                envelope.sender, f"{len(tables[envelope.sender]):,}", f"{visits:,}", "  ".join(f"{word:>10}" for word in words[1:])
            )
    _tabulate(console, table)
    [(_, released)] = fresh.observed["analyst"].opened
    total = sum(int(frame["mdvis"].sum()) for frame in tables.values())
    _say(
        console,
        f"Each insurer added masks that it shares with each of the others, one of its own, and one that only the analyst can remove. "
        f"In the sum they cancel: the analyst learnt {total:,} visits in {result.n:,} rows "
        f"({'exactly' if total in set(released.values) else 'not'} the true total),"
        f" a mean of {result.estimate:.4f}, and nothing else; to the server all of them look like random numbers.",
    )


def _dropout(console: Console, tables: dict[str, pd.DataFrame], schema: Schema) -> None:
    _title(console, "One insurer drops out in the middle")
    study = simulate(tables, schema, Masking(colluding=1), faults=[Dropout("cedar", "masked_input")])
    result: Any = study.mean("mdvis")
    kept = pd.concat([table for name, table in tables.items() if name != "cedar"])
    _say(
        console,
        "*cedar* vanished after its keys were shared, before it sent its numbers. The others let the server remove exactly the masks "
        f"that it left behind: **{result.estimate:.6f}** over {', '.join(result.contributors)}; pooled without cedar: {kept['mdvis'].mean():.6f}.",
    )
    _say(
        console,
        "This was a fresh study on purpose. Had the same sum been opened over all five before, the difference of the two exact answers *would be* "
        "cedar's data: every insurer keeps a record of what was opened over whom and refuses such a pair.",
    )


def _encrypted(console: Console, tables: dict[str, pd.DataFrame], schema: Schema, masked: Study) -> None:
    _title(console, "The same regression on one cloud, which adds what it cannot read")
    _say(
        console,
        "Insurers make a key that nobody holds whole, and encrypt their totals under it; a cloud adds the ciphertexts. Any three of the five "
        "decrypt the sum together, towards the analyst alone. This time *dogwood* vanishes after it has encrypted:",
    )
    study = simulate(tables, schema, Homomorphic(colluding=1, threshold=3), faults=[Dropout("dogwood", "ready")])
    query = LinearRegression(FORMULA)
    try:
        result, reference = study.run(query), masked.run(query)
    except CapabilityError as error:
        _say(console, f"This part was left out: {error}")
        return
    _list(console, result.plan.steps[0].cost.passage())
    same = result.params.equals(reference.params) and result.bse.equals(reference.bse)
    assert result.cost is not None
    _say(
        console,
        f"Contributors: {', '.join(result.contributors)}; what dogwood had encrypted stays in the sum, and the others decrypt without it. "
        f"Coefficients and standard errors are those of masking **{'to the last bit' if same else 'nearly'}**, in {result.cost.seconds:.1f} seconds and "
        f"{size(result.cost.bytes_per_owner)} per insurer: ciphertexts are long, however few the numbers in them.",
    )


def _sealed(console: Console, tables: dict[str, pd.DataFrame], schema: Schema, masked: Study) -> None:
    _title(console, "The same regression on three servers: the moments are never opened")
    _say(
        console,
        "Masking can only add, so its moments become clear. Let three operators run a compute server each: insurers split their totals into "
        "shares, no single server learns anything, and the three together solve the equations on shares. What becomes clear moves from the "
        "moments to the answer:",
    )
    study = simulate(tables, schema, Sharing(servers=3, open="estimate"))
    query = LinearRegression(FORMULA)
    _show(console, disclosure_table(study.plan(query)).text())
    result, reference = study.run(query), masked.run(query)
    worst = float(np.max(np.abs(result.params.to_numpy() - reference.params.to_numpy())))
    assert result.cost is not None
    _say(
        console,
        f"The statistic is the same file, the answer the same to the declared resolution: coefficients differ from the opened ones by at most {worst:.0e}. "
        f"It took {result.cost.seconds:.1f} seconds with all parties in one process, and {size(result.cost.bytes_per_owner)} per insurer.",
    )
    by_masking, by_servers = masked.plan(Quantile("mdvis", 0.5)), study.plan(Quantile("mdvis", 0.5))
    _say(
        console,
        f"The median number of visits is **{study.quantile('mdvis').estimate:g}**: the servers find it by comparisons on shares and open {by_servers.openings} numbers, "
        f"where masking, by bisection, opens up to {by_masking.openings}.",
    )
