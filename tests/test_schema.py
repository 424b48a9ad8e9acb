"""The schema: exact decimal lattices, missing values, TOML, and errors that hold no data."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import veilstat as vs
from veilstat.schema.encoding import encode, exact, nearest_floats
from veilstat.testing.tables import small_schema, small_tables


def codes(column, values, **series):
    return column.codes(pd.Series(values, **series))[0].tolist()


def test_ties_are_decided_in_decimals_and_go_to_even():
    column = vs.Continuous("x", lower=10, upper=20, step=0.1)
    assert codes(column, [10.05, 10.15, 10.25, 10.35]) == [0, 2, 2, 4]
    assert codes(column, [Decimal("10.05"), Decimal("10.15")]) == [0, 2]
    assert codes(column, np.array([10.05, 10.15], dtype=np.float32)) == [0, 2]
    assert round((10.05 - 10) / 0.1) == 1


@given(
    st.integers(-10_000, 10_000), st.sampled_from(["1", "0.1", "0.25", "0.003", "0.00001", "7"]),
    st.lists(st.decimals("-20000", "20000", places=6, allow_nan=False), min_size=1, max_size=30), st.sampled_from([np.float64, np.float32]),
)  # fmt: skip
def test_codes_are_those_of_exact_rational_arithmetic(lower, step, decimals, dtype):
    numbers = np.array([float(d) for d in decimals]).astype(dtype)
    origin, width = Fraction(lower), exact(step)
    values = [Fraction(Decimal(str(number))) for number in numbers]
    low, high = min(values) - 1, max(values) + 1
    assert encode(numbers, origin, width, low, high).tolist() == [round((value - origin) / width) for value in values]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_decoding_gives_the_nearest_float(values):
    decoded = nearest_floats(np.array(values), Fraction(1, 10), Fraction(1, 1000))
    assert decoded.tolist() == [float(Fraction(1, 10) + Fraction(value, 1000)) for value in values]


def test_quantise_is_idempotent_and_keeps_index_and_missing_values():
    schema, tables = small_schema(), small_tables()
    frame = tables["owner2"].set_index(pd.Index(range(100, 100 + len(tables["owner2"]))))
    once = schema.quantise(frame)
    pd.testing.assert_frame_equal(schema.quantise(once), once)
    assert once.index.equals(frame.index)
    assert once["bmi"].isna().equals(frame["bmi"].isna())
    assert once["female"].isna().equals(frame["female"] == 9)
    assert (once["bmi"] - frame["bmi"]).abs().max() <= 0.05 + 1e-12


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series([1, None, 3], dtype="Int64"), [1, 0, 3]),
        (pd.Series([1.0, None, 3.0]), [1, 0, 3]),
        (pd.Series([1, 2, 3], dtype="uint8"), [1, 2, 3]),
        (pd.Series([True, False]), [1, 0]),
        (pd.Series([True, None], dtype="boolean"), [1, 0]),
        (pd.Series([1, "", 3], dtype=object).replace("", None), [1, 0, 3]),
        (pd.Series([1, 2], dtype="category"), [1, 2]),
        (pd.Series([], dtype=float), []),
    ],
)
def test_every_numeric_dtype_is_read(series, expected):
    values, present = vs.Integer("x", lower=0, upper=9).codes(series)
    assert values.tolist() == expected
    assert present.tolist() == series.notna().tolist()


def test_binary_categorical_and_date_columns():
    assert codes(vs.Binary("b"), [True, False, 1, 0]) == [1, 0, 1, 0]
    assert codes(vs.Categorical("c", levels=["u", "v"]), ["v", "u", None]) == [1, 0, 0]
    assert codes(vs.Categorical("c", levels=[1, 2, 3]), [3.0, None, 1.0]) == [2, 0, 0]
    assert codes(vs.Categorical("c", levels=["u", "v"]), ["v", "u"], dtype="category") == [1, 0]
    dates = vs.Date("d", lower="2020-01-01", upper="2020-12-31")
    assert codes(dates, ["2020-01-02", "2020-12-31"]) == [1, 365]
    assert codes(dates, pd.to_datetime(["2020-01-02", None])) == [1, 0]
    assert dates.decode(*dates.codes(pd.Series(["2020-03-01"]))).tolist() == [pd.Timestamp("2020-03-01")]


def test_derived_columns_follow_their_sources():
    schema = vs.Schema(vs.Continuous("income", lower=1, upper=1000, step=0.01), vs.Derived("log_income", "log(income)", step=1e-4))
    frame = pd.DataFrame({"income": [1.0, 2.718281828, np.nan, 1000]})
    assert np.allclose(schema.quantise(frame)["log_income"], np.log(frame["income"].round(2)).round(4), equal_nan=True)
    column = schema["log_income"]
    assert (column.origin, column.top) == (0, 69078)
    squared = vs.Schema(vs.Integer("a", lower=-3, upper=2), vs.Derived("s", "a**2 - abs(a) / 2", step=0.5))
    assert squared.quantise(pd.DataFrame({"a": [-3, 0, 2]}))["s"].tolist() == [7.5, 0, 3]


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "a.b", "a if a else 1", "lambda: 0", "f(a)", "a[0]", "a ** a", "a +", "a; b", "'x'", "a @ a"]
)
def test_derived_expressions_are_arithmetic_only(expression):
    with pytest.raises(vs.SchemaError) as error:
        vs.Derived("d", expression, step=1)
    assert error.value.code == "bad_expression"


def test_derived_columns_outside_a_functions_domain_are_refused():
    with pytest.raises(vs.SchemaError, match="unbounded"):
        vs.Schema(vs.Integer("a", lower=0, upper=9), vs.Derived("d", "log(a)", step=0.1))
    with pytest.raises(vs.SchemaError, match="'z'"):
        vs.Schema(vs.Integer("a", lower=0, upper=9), vs.Derived("d", "z + 1", step=0.1))


def test_toml_round_trips(tmp_path):
    schema = vs.Schema(
        vs.Integer("age", lower=0, upper=120, unit="years", missing=(-9,)), vs.Continuous("bmi", lower=10, upper="70.5", step=0.1),
        vs.Categorical("sex", levels=["f", "m"]), vs.Binary("smoker"), vs.Date("seen", lower="2020-01-01", upper="2021-01-01"),
        vs.Derived("log_age", "log(age + 1)", step=0.001), max_rows=123,
    )  # fmt: skip
    schema.to_toml(tmp_path / "schema.toml")
    again = vs.Schema.from_toml(tmp_path / "schema.toml")
    assert again.digest == schema.digest
    assert again.to_toml() == schema.to_toml()
    assert again["bmi"].lattice_step == Fraction(1, 10)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("max_rows = 5", "bad_schema"),
        ("columns = [", "bad_toml"),
        ("[[columns]]\nkind = 'real'\nname = 'x'", "unknown_kind"),
        ("[[columns]]\nkind = 'integer'\nname = 'x'\nlower = 0", "missing_key"),
        ("[[columns]]\nkind = 'integer'\nname = 'x'\nlower = 0\nupper = 3\nstepp = 2", "unknown_key"),
        ("[[columns]]\nkind = 'integer'\nname = 'x'\nlower = 4\nupper = 3", "bad_bounds"),
        ("max_rows = 0\n[[columns]]\nkind = 'binary'\nname = 'x'", "bad_max_rows"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path, text, code):
    (tmp_path / "schema.toml").write_text(text)
    with pytest.raises(vs.SchemaError) as error:
        vs.Schema.from_toml(tmp_path / "schema.toml")
    assert error.value.code == code


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(vs.SchemaError, match="there is no file"):
        vs.Schema.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "make",
    [
        lambda: vs.Schema(), lambda: vs.Schema("age"), lambda: vs.Schema(vs.Binary("a"), vs.Binary("a")), lambda: vs.Binary(""),
        lambda: vs.Integer("a", lower=0, upper=1.5), lambda: vs.Integer("a", lower=0, upper=float("nan")), lambda: vs.Integer("a", lower=0, upper=2**60),
        lambda: vs.Continuous("a", lower=0, upper=1, step=0), lambda: vs.Continuous("a", lower=0, upper=1, step="x"),
        lambda: vs.Categorical("a", levels=["x"]), lambda: vs.Categorical("a", levels="xy"), lambda: vs.Categorical("a", levels=["x", "x"]),
        lambda: vs.Date("a", lower="2020-13-01", upper="2021-01-01"), lambda: vs.Schema(vs.Binary("a"), max_rows=2**41),
    ],
)  # fmt: skip
def test_bad_columns_are_refused_when_they_are_made(make):
    with pytest.raises(vs.SchemaError):
        make()


@pytest.mark.parametrize(
    ("column", "values", "kind", "code"),
    [
        (vs.Integer("x", lower=0, upper=9), [1, 12345], vs.RangeError, "out_of_bounds"),
        (vs.Integer("x", lower=0, upper=9), [1.5], vs.SchemaError, "wrong_type"),
        (vs.Integer("x", lower=0, upper=9), ["12345"], vs.SchemaError, "wrong_type"),
        (vs.Continuous("x", lower=0, upper=9, step=0.1), [9.001], vs.RangeError, "out_of_bounds"),
        (vs.Continuous("x", lower=0, upper=9, step=0.1), [float("inf")], vs.RangeError, "out_of_bounds"),
        (vs.Continuous("x", lower=0, upper=9, step=0.1), [Decimal("-0.01")], vs.RangeError, "out_of_bounds"),
        (vs.Continuous("x", lower=0, upper=9, step=0.1), [1 + 2j], vs.SchemaError, "wrong_type"),
        (vs.Binary("x"), [2], vs.SchemaError, "unknown_level"),
        (vs.Categorical("x", levels=["a", "b"]), ["12345"], vs.SchemaError, "unknown_level"),
        (vs.Date("x", lower="2020-01-01", upper="2020-02-01"), ["2021-01-01"], vs.RangeError, "out_of_bounds"),
        (vs.Date("x", lower="2020-01-01", upper="2020-02-01"), ["someday"], vs.SchemaError, "wrong_type"),
    ],
)
def test_data_errors_name_the_column_and_hold_no_value(column, values, kind, code):
    with pytest.raises(kind) as error:
        column.codes(pd.Series(values))
    assert error.value.code == code
    assert "'x'" in error.value.message
    assert "12345" not in str(error.value)


def test_bounds_are_inclusive_in_every_width():
    column = vs.Continuous("x", lower=0.1, upper=0.7, step=0.1)
    for dtype in (np.float64, np.float32):
        assert codes(column, np.array([0.1, 0.7], dtype=dtype)) == [0, 6]


def test_infer_fits_the_frame():
    frame = small_tables()["owner1"]
    schema = vs.Schema.infer(frame)
    quantised = schema.quantise(frame)
    assert np.allclose(quantised["bmi"], frame["bmi"], equal_nan=True)
    assert schema["region"].levels == ("coast", "hills", "plain")


def test_a_schema_prints_and_renders():
    schema = small_schema()
    assert "10 to 70 in steps of 0.1" in str(schema)
    assert "<table>" in schema._repr_html_()


def test_what_somebody_wrote_into_a_schema_cannot_be_read_as_a_part_of_its_table():
    forged = "a\nage     integer  0 to 1"
    schema = vs.Schema(
        vs.Categorical("region", levels=["north", forged, "no answer", "1, 2"]),
        vs.Integer("age in years", lower=0, upper=120, unit="years\nat most 5 rows per data owner"),
        vs.Continuous("bmi", lower=10, upper=70, step=0.1, unit="kg/m^2"),
        vs.Derived("older", "(bmi # 0 to 1\n + 1)", step=0.1),
    )
    _, region, age, bmi, older, _ = str(schema).splitlines()
    assert region.endswith(f"one of north, {forged!r}, 'no answer', '1, 2'")
    assert age.startswith("'age in years'")
    assert age.endswith(r"'years\nat most 5 rows per data owner'")
    assert bmi.endswith("10 to 70 in steps of 0.1, kg/m^2")
    assert "bmi + 1, 11 to 71" in older


def test_an_unknown_column_is_told_which_there_are_by_quoted_names():
    schema = vs.Schema(vs.Binary("smoker"), vs.Binary("a, b"))
    with pytest.raises(vs.SchemaError, match="the schema has: smoker, 'a, b' "):
        schema["c"]


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        (vs.Continuous("x", lower=10, upper=70, step=0.1), [True, False], vs.RangeError),
        (vs.Integer("x", lower=0, upper=9), [[1], 2], vs.SchemaError),
        (vs.Integer("x", lower=0, upper=9, missing=[-1]), [{"a": 1}, 2], vs.SchemaError),
        (vs.Integer("x", lower=0, upper=9), [1j, 2], vs.SchemaError),
        (vs.Integer("x", lower=0, upper=9), [pd.Timestamp("2020-01-01"), 2], vs.SchemaError),
        (vs.Binary("x"), [(1,), 0], vs.SchemaError),
        (vs.Categorical("x", levels=["a", "b"]), [["a"], "b"], vs.SchemaError),
        (vs.Date("x", lower="1970-01-01", upper="2020-01-01"), [86_400_000_000_000, 0], vs.SchemaError),
        (vs.Date("x", lower="1970-01-01", upper="2020-01-01"), ["02/01/2000", "03/01/2000"], vs.SchemaError),
    ],
)
def test_objects_of_the_wrong_kind_are_refused_in_every_column(column, values, kind):
    plain = all(isinstance(value, bool) for value in values)
    with pytest.raises(kind):
        column.codes(pd.Series(values, dtype=None if plain else object))


def test_a_day_is_the_local_one_and_a_decimal_missing_code_equals_its_float(tmp_path):
    day = vs.Date("day", lower="2020-01-01", upper="2021-01-01")
    assert codes(day, pd.to_datetime(["2020-01-02 00:30+02:00", "2020-01-02 23:30+02:00"])) == [1, 1]
    vs.Schema(vs.Continuous("x", lower=0, upper=1, step=0.1, missing=[-9.9])).to_toml(tmp_path / "schema.toml")
    read = vs.Schema.from_toml(tmp_path / "schema.toml")
    assert read["x"].codes(pd.Series([-9.9, 0.3]))[1].tolist() == [False, True]


def test_thirds_survive_toml(tmp_path):
    schema = vs.Schema(vs.Continuous("x", lower=0, upper=1, step=Fraction(1, 3)), vs.Derived("y", "x + 1", step=Fraction(1, 7)))
    schema.to_toml(tmp_path / "schema.toml")
    read = vs.Schema.from_toml(tmp_path / "schema.toml")
    assert read == schema or (read.digest == schema.digest and read["x"].lattice_step == Fraction(1, 3) == 7 * read["y"].lattice_step / 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: vs.Integer("x", lower=0, upper=1, missing="-9"), lambda: vs.Integer("x", lower=0, upper=1, missing=5),
        lambda: vs.Categorical("x", levels=5), lambda: vs.Categorical("x", levels=[["a"], "b"]), lambda: vs.Categorical("x", levels=[1, float("nan")]),
        lambda: vs.Binary("x", unit=5), lambda: vs.Binary("a\nb"), lambda: vs.Date("x", lower=pd.NaT, upper="2020-01-01"),
        lambda: vs.Derived(["x"], "x", step=1), lambda: vs.Derived("y", 5, step=1), lambda: vs.Derived("y", "-" * 5000 + "x", step=1),
        lambda: vs.Derived("y", "log", step=1), lambda: vs.Schema(vs.Integer("x", lower=1, upper=9), vs.Derived("y", "x**1000", step=1)),
        lambda: vs.Schema.from_dict(5), lambda: vs.Schema.from_dict({"columns": [5]}), lambda: vs.Schema.from_dict({"columns": [{"kind": []}]}),
        lambda: vs.Schema.from_toml(None), lambda: vs.Schema.from_toml("."), lambda: vs.Schema.infer(None),
        lambda: small_schema().quantise({"age": [1]}), lambda: small_schema()[np.array(["age", "bmi"])],
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_type_are_schema_errors(make):
    with pytest.raises(vs.SchemaError):
        make()
