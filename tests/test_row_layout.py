"""Layouts and quadratic forms of encrypted rows, against numpy in the clear."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import veilstat as vs
from veilstat.architectures.homomorphic.rows.layout import ONE, Plane, choose_layout, masks, planes
from veilstat.architectures.homomorphic.rows.parameters import choose_row_parameters
from veilstat.architectures.homomorphic.rows.quadratic import opened, supports_rows
from veilstat.language.cut import Entry, cut
from veilstat.platform.table import Table
from veilstat.testing.tables import small_schema, small_tables

DEGREE = 8192
SCHEMA = vs.Schema(
    vs.Integer("a", lower=0, upper=50), vs.Integer("b", lower=5, upper=9), vs.Categorical("c", levels=("u", "v", "w")), vs.Binary("d")
)


def frame(rows, missing, seed=3):
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "a": draw.integers(0, 51, rows).astype(float),
            "b": draw.integers(5, 10, rows).astype(float),
            "c": draw.choice(["u", "v", "w"], rows).astype(object),
            "d": draw.integers(0, 2, rows).astype(float),
        }
    )
    for name in missing:
        table.loc[draw.random(rows) < 0.3, name] = np.nan
    return Table("owner", table, SCHEMA).rows(("a", "b", "c", "d"))


def negacyclic(first, second):
    """The product modulo X^n + 1, of integers."""
    full = np.rint(np.fft.irfft(np.fft.rfft(first, 4 * DEGREE) * np.fft.rfft(second, 4 * DEGREE), 4 * DEGREE)).astype(np.int64)
    return full[:DEGREE] - full[DEGREE : 2 * DEGREE]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 700), missing=st.sets(st.sampled_from("abcd")), padding=st.integers(0, 5), seed=st.integers(0, 99))
def test_every_cell_holds_its_inner_product(rows, missing, padding, seed):
    table = frame(rows, missing, seed)
    incomplete = frozenset(name for name, (_, present) in table.columns.items() if not present.all())
    layout = choose_layout(SCHEMA, incomplete, rows + padding, DEGREE)
    messages = list(layout.messages(table.columns, rows, rows + padding, DEGREE))
    assert len(messages) == layout.blocks(rows + padding) * layout.groups
    draw = np.random.default_rng(seed)
    everything = planes(SCHEMA)
    for _ in range(6):
        first, second = (everything[place] for place in draw.integers(0, len(everything), 2))
        mask = masks(incomplete)[draw.integers(0, len(masks(incomplete)))]
        cell = layout.cell(first, second, mask)
        total = sum(
            negacyclic(messages[block * layout.groups + cell.left], messages[block * layout.groups + len(layout.left) + cell.right])
            for block in range(layout.blocks(rows + padding))
        )
        present = np.all([table.columns[name][1] for name in mask], axis=0) if mask else np.ones(rows, dtype=bool)
        expected = (first.values(table.columns, rows) * second.values(table.columns, rows) * present).sum()
        assert total[cell.position] == expected


def test_masks_that_were_not_uploaded_are_refused():
    schema = vs.Schema(*(vs.Binary(name) for name in "abcde"))
    layout = choose_layout(schema, frozenset("abcd"), 10, DEGREE)
    layout.cell(Plane("a", 1), Plane("b", 1), frozenset("ab"))
    layout.cell(Plane("a", 1), Plane("b", 1), frozenset("abcd"))
    layout.cell(Plane("a", 1), Plane("a", 1), frozenset("ab"))
    layout.cell(ONE, Plane("e", 1), frozenset("abcde"))
    for first, second, mask in ((ONE, ONE, "ab"), (ONE, Plane("b", 1), "abc")):
        with pytest.raises(vs.CapabilityError, match="entry='totals'") as error:
            layout.cell(first, second, frozenset(mask))
        assert error.value.code == "mask_unavailable"


def test_of_three_incomplete_columns_every_set_is_a_mask():
    assert len(masks(frozenset("abc"))) == 8
    assert len(masks(frozenset("abcd"))) == 6


@pytest.mark.parametrize(("rows", "ciphertexts"), [(1024, 6), (200, 4), (16384, 22)])
def test_eleven_planes_take_few_ciphertexts(rows, ciphertexts):
    schema = vs.Schema(*(vs.Integer(f"x{place}", lower=0, upper=1000) for place in range(10)))
    layout = choose_layout(schema, frozenset(), rows, 16384)
    assert layout.blocks(rows) * layout.groups <= ciphertexts
    assert layout.block * layout.width**2 <= 16384


def forms(statistic, schema=None):
    schema = schema or small_schema()
    parameters = choose_row_parameters(600, 320, 5, 64)
    [step] = statistic.steps(schema)
    chosen = cut(step.trace(schema, 5), Entry.ROWS, supports_rows)
    return chosen, opened(chosen, schema, parameters)


def test_forms_of_a_crosstab_are_its_counts():
    _, numbers = forms(vs.Crosstab("region", "female"))
    schema = small_schema()
    tables = [Table(name, table, schema).rows(("region", "female")) for name, table in small_tables().items()]
    found = []
    for number in numbers:
        total = 0
        for table in tables:
            for first, second, mask, weight in number.products:
                rows = first.values(table.columns, len(table)) * second.values(table.columns, len(table))
                for name in mask:
                    rows = rows * table.columns[name][1]
                total += weight * int(rows.sum())
        found.append(number.content * total)
    clear = vs.simulate(small_tables(), schema, "clear").crosstab("region", "female")
    assert set(clear.estimate.to_numpy().reshape(-1).tolist()) <= set(found)


@pytest.mark.parametrize(
    ("statistic", "code"),
    [
        (vs.MeanBy("bp", by="region"), "degree_too_high"),
        (vs.LinearRegression("bp ~ age + I(age**2)"), "degree_too_high"),
        (vs.Histogram("bp", bins=[40, 100, 260]), "rows_unprotected"),
    ],
)
def test_higher_degrees_and_comparisons_are_refused(statistic, code):
    with pytest.raises(vs.CapabilityError, match="entry='totals'") as error:
        forms(statistic)
    assert error.value.code == code


def test_totals_wider_than_the_study_carries_are_refused():
    schema = vs.Schema(vs.Integer("a", lower=0, upper=2**30), max_rows=64)
    with pytest.raises(vs.CapabilityError, match="carry totals of") as error:
        forms(vs.Variance("a"), schema)
    assert error.value.code == "too_wide"
