"""Small cells are suppressed before anything is opened, by arithmetic that servers run on shares.

A cell with 1 to ``fewest`` - 1 rows is hidden. So that it does not follow from the totals of its row or column, every
line with hidden cells keeps at least two of them, with at least ``fewest`` rows together, by hiding its next smallest
cells too (complementary suppression; Hundepool et al., Statistical Disclosure Control, 2012, section 5.3). What can be
inferred from inequalities among hidden cells, or from other queries, is not searched.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from veilstat.errors import SchemaError
from veilstat.language.trace import Value

HIDDEN = -1
"""What stands for a hidden count."""

_PASSES = 2


def check_fewest(fewest: int | None) -> None:
    """Accept None (nothing is hidden) or a whole number from 2 on."""
    if fewest is not None and (isinstance(fewest, bool) or not isinstance(fewest, int) or not 2 <= fewest <= 1_000_000):
        raise SchemaError("min_cell must be the fewest rows of a cell that may be shown, a whole number from 2 on", code="bad_option")


def hidden_cells(counts: Value, fewest: int) -> Value:
    """1 where a cell of a table (rows, columns) of counts is hidden, else 0.

    Where a few passes over rows and columns leave a line unprotected, which is rare, the whole table is hidden.
    """
    hidden = _is_small(counts, fewest)
    for _ in range(_PASSES):
        hidden = _with_complements(counts, hidden, fewest)
        hidden = _with_complements(counts.T, hidden.T, fewest).T
    open_lines = _needs_complement(counts, hidden, fewest).sum() + _needs_complement(counts.T, hidden.T, fewest).sum()
    everything = 1 - open_lines.equal(0)
    return hidden + everything * (1 - hidden)


def hidden_levels(counts: Value, fewest: int) -> Value:
    """The same for a single line of counts, whose total may be known."""
    line = counts[np.newaxis, :]
    hidden = _is_small(line, fewest)
    for _ in range(_PASSES):
        hidden = _with_complements(line, hidden, fewest)
    everything = 1 - _needs_complement(line, hidden, fewest).sum().equal(0)
    return (hidden + everything * (1 - hidden))[0]


def _is_small(counts: Value, fewest: int) -> Value:
    return counts.less(fewest) - counts.equal(0)


def _needs_complement(counts: Value, hidden: Value, fewest: int) -> Value:
    """1 for every row with hidden cells that follow from its total: one alone, or too few rows together."""
    width = counts.shape[1]
    ones = [1] * width
    cells, rows = hidden @ ones, (hidden * counts) @ ones
    few = 1 - (1 - rows.less(fewest)) * (1 - cells.less(2))
    return (1 - cells.equal(0)) * (1 - cells.equal(width)) * few


def _with_complements(counts: Value, hidden: Value, fewest: int) -> Value:
    """The next smallest cell of every row that needs it is hidden too: one with rows in it before an empty one."""
    assert counts.node.bounds is not None
    beyond = counts.node.bounds.high + 1
    order = counts + counts.equal(0) * beyond + hidden * (2 * beyond)
    chosen = _first_smallest(order) * _needs_complement(counts, hidden, fewest)[:, np.newaxis]
    return hidden + chosen * (1 - hidden)


def _first_smallest(values: Value) -> Value:
    """1 at the first smallest element of every row, else 0."""
    width = values.shape[1]
    pairs = list(combinations(range(width), 2))
    first, second = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    second_is_smaller = values[:, second].less(values[:, first])
    losses = np.zeros((len(pairs), width), dtype=int)
    losses[np.arange(len(pairs)), first] = 1
    losses[np.arange(len(pairs)), second] = -1
    lost = second_is_smaller @ losses.tolist() + np.bincount(second, minlength=width).tolist()
    smallest: Value = lost.equal(0)
    return smallest
