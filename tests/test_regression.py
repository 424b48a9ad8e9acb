"""Linear regression against statsmodels, NIST's certified values, and exact rational arithmetic."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import veilstat as vs
from tests.datasets import ALL, longley, pooled
from veilstat.testing.tables import small_schema, small_tables

MODELS = {
    "diabetes": ["target ~ age + bmi + bp + C(sex)", "target ~ bmi * C(sex) + I(bp**2)", "target ~ 0 + bmi + bp"],
    "randhie": ["mdvis ~ lncoins + idp + lpi + fmde + physlm + disea + hlthg + hlthf + hlthp"],
    "wine": ["proline ~ alcohol + C(kind) + ash:C(kind)", "proline ~ 0 + C(kind) + alcohol", "alcohol ~ C(kind) - 1"],
    "fair": ["children ~ age + yrs_married + C(religious)", "age ~ I(yrs_married**2) + yrs_married + rate_marriage:religious"],
}
CASES = [(name, formula) for name, formulas in MODELS.items() for formula in formulas]


@pytest.mark.parametrize(("name", "formula"), CASES)
def test_everything_equals_statsmodels_on_the_quantised_rows(name, formula):
    _, schema, tables = ALL[name]()
    ours = vs.simulate(tables, schema).linear_regression(formula)
    theirs = smf.ols(formula.replace("I(", "I(1.0 * "), pooled(name).assign(**_plain(pooled(name)))).fit()
    assert list(ours.params.index) == [term.replace("1.0 * ", "") for term in theirs.params.index]
    order = ours.params.index
    for field in ("params", "bse", "tvalues", "pvalues"):
        expected = getattr(theirs, field).set_axis(order)
        pd.testing.assert_series_equal(getattr(ours, field), expected, rtol=1e-9, atol=1e-200, check_names=False)
    assert np.allclose(ours.conf_int(0.1), theirs.conf_int(0.1), rtol=1e-9)
    assert np.allclose(ours.cov_params(), theirs.cov_params(), rtol=1e-9)
    for field in ("rsquared", "rsquared_adj", "fvalue", "f_pvalue", "aic", "bic", "llf", "df_resid", "df_model", "scale", "nobs"):
        assert getattr(ours, field) == pytest.approx(getattr(theirs, field), rel=1e-9), field
    test = ours.wald_test(list(order[1:]))
    reference = theirs.wald_test(np.eye(len(order))[1:], scalar=True)
    assert (test.statistic, test.pvalue) == pytest.approx((reference.statistic, reference.pvalue), rel=1e-9, abs=1e-200)


def _plain(rows):
    return {c: rows[c].astype(str) for c in rows if isinstance(rows[c].dtype, pd.CategoricalDtype)}


NIST_LONGLEY = {
    "Intercept": (-3482258.63459582, 890420.383607373),
    "GNPDEFL": (15.0618722713733, 84.9149257747669),
    "GNP": (-0.358191792925910e-01, 0.334910077722432e-01),
    "UNEMP": (-2.02022980381683, 0.488399681651699),
    "ARMED": (-1.03322686717359, 0.214274163161675),
    "POP": (-0.511041056535807e-01, 0.226073200069370),
    "YEAR": (1829.15146461355, 455.478499142212),
}


def digits(ours, certified):
    return 16 if ours == certified else -math.log10(abs(ours - certified) / abs(certified))


def test_nist_longley_has_at_least_13_certified_digits():
    _, schema, tables = longley()
    result = vs.simulate(tables, schema).linear_regression("TOTEMP ~ GNPDEFL + GNP + UNEMP + ARMED + POP + YEAR")
    assert min(digits(result.params[term], value) for term, (value, _) in NIST_LONGLEY.items()) >= 13
    assert min(digits(result.bse[term], value) for term, (_, value) in NIST_LONGLEY.items()) >= 13
    assert digits(result.rsquared, 0.995479004577296) >= 13
    assert digits(result.scale**0.5, 304.854073561965) >= 13
    assert digits(result.fvalue, 330.285339234588) >= 13


def test_missing_rows_are_left_out_listwise():
    schema, tables = small_schema(), small_tables()
    rows = schema.quantise(pd.concat(tables.values(), ignore_index=True)).assign(region=lambda f: f["region"].astype(str))
    ours = vs.simulate(tables, schema).linear_regression("bp ~ bmi + female + C(region)")
    theirs = smf.ols("bp ~ bmi + female + C(region)", rows).fit()
    assert np.allclose(ours.params, theirs.params, rtol=1e-9)
    assert ours.n == theirs.nobs
    assert ours.n + ours.n_missing == len(rows)


def test_predictions_and_nested_tests_equal_statsmodels():
    frame, schema, tables = ALL["diabetes"]()
    study = vs.simulate(tables, schema)
    full, small = study.linear_regression("target ~ bmi + C(sex) + bp"), study.linear_regression("target ~ bmi")
    rows = pooled("diabetes").assign(sex=lambda f: f["sex"].astype(str))
    theirs = smf.ols("target ~ bmi + C(sex) + bp", rows).fit()
    assert np.allclose(full.predict(frame), theirs.predict(frame), rtol=1e-9)
    assert full.compare_f_test(small) == pytest.approx(theirs.compare_f_test(smf.ols("target ~ bmi", rows).fit()), rel=1e-7)
    with pytest.raises(vs.SchemaError):
        small.compare_f_test(full)
    with pytest.raises(vs.SchemaError, match="no term 'age'"):
        full.wald_test("age")


def test_a_constant_that_only_products_of_levels_span_is_found():
    frame = pd.DataFrame({"y": [3, 5, 4, 9, 8, 7, 6, 1], "g": list("aabbaabb"), "h": list("uvuvuvuv")})
    schema = vs.Schema(vs.Integer("y", lower=0, upper=9), vs.Categorical("g", levels=["a", "b"]), vs.Categorical("h", levels=["u", "v"]))
    ours = vs.simulate({"p": frame[:5], "q": frame[5:]}, schema).linear_regression("y ~ g:h - 1")
    theirs = smf.ols("y ~ g:h - 1", frame).fit()
    assert [ours.rsquared, ours.fvalue, ours.df_model] == pytest.approx([theirs.rsquared, theirs.fvalue, theirs.df_model], rel=1e-9)


def test_predictions_read_days_missing_codes_and_refuse_what_is_no_table():
    days = pd.date_range("2020-01-01", periods=40)
    frame = pd.DataFrame({"day": days, "x": [1.0, 2.0] * 20, "y": [float(place % 7) for place in range(40)]})
    schema = vs.Schema(
        vs.Date("day", lower="2020-01-01", upper="2021-01-01"), vs.Integer("x", lower=0, upper=9, missing=[-1]), vs.Integer("y", lower=0, upper=9)
    )  # fmt: skip
    result = vs.simulate({"p": frame[:20], "q": frame[20:]}, schema).linear_regression("y ~ day + x")
    plain = frame.assign(day=(frame["day"] - pd.Timestamp("1970-01-01")).dt.days)
    np.testing.assert_allclose(result.predict(frame), smf.ols("y ~ day + x", plain).fit().predict(plain), rtol=1e-7)
    pd.testing.assert_series_equal(result.predict(plain), result.predict(frame))
    assert result.predict(frame.assign(x=-1.0)).isna().all()
    for wrong in (None, {"x": [1]}, frame.assign(x="2"), pd.concat([frame, frame[["x"]]], axis=1)):
        with pytest.raises(vs.SchemaError):
            result.predict(wrong)


@pytest.mark.parametrize("hypothesis", [None, 5, [], [["a"]], ["a", "a"], np.zeros((1, 3)), np.full((1, 3), np.nan), np.ones((1, 1, 3))])
def test_hypotheses_that_test_nothing_are_refused(hypothesis):
    frame = pd.DataFrame({"a": [0, 1, 2, 3, 4, 5], "b": [1, 0, 2, 5, 4, 3], "y": [1, 2, 2, 4, 3, 5]})
    schema = vs.Schema(*(vs.Integer(name, lower=0, upper=9) for name in "aby"))
    study = vs.simulate({"p": frame[:3], "q": frame[3:]}, schema)
    result = study.linear_regression("y ~ a + b")
    with pytest.raises(vs.SchemaError):
        result.wald_test(hypothesis)
    for other in (None, result, study.linear_regression("b ~ a")):
        with pytest.raises(vs.SchemaError):
            result.compare_f_test(other)
    for alpha in (None, 0, 1, 5, "x", float("nan")):
        with pytest.raises(vs.SchemaError):
            result.conf_int(alpha)


@pytest.mark.parametrize("formula", ["y ~ a + b", "y ~ a + C(g)", "y ~ c"])
def test_a_singular_design_names_the_term(formula):
    schema = vs.Schema(
        vs.Integer("y", lower=0, upper=9), vs.Integer("a", lower=0, upper=9), vs.Integer("b", lower=0, upper=20),
        vs.Integer("c", lower=0, upper=9), vs.Categorical("g", levels=["p", "q", "r"]), max_rows=10,
    )  # fmt: skip
    frame = pd.DataFrame({"y": [1, 4, 2, 7, 5], "a": [1, 2, 3, 4, 6], "b": [3, 5, 7, 9, 13], "c": [4] * 5, "g": list("ppqpq")})
    study = vs.simulate({"x": frame[:3], "z": frame[3:]}, schema)
    with pytest.raises(vs.SchemaError) as error:
        study.linear_regression(formula)
    assert error.value.code == "singular_design"
    assert {"y ~ a + b": "'b'", "y ~ a + C(g)": "'C(g)[T.r]'", "y ~ c": "'c'"}[formula] in error.value.message


def test_a_perfect_fit_and_a_saturated_one_have_no_errors_invented():
    schema = vs.Schema(vs.Integer("y", lower=0, upper=99), vs.Integer("x", lower=0, upper=9), max_rows=10)
    exactly = vs.simulate({"a": pd.DataFrame({"x": [1, 2], "y": [5, 7]}), "b": pd.DataFrame({"x": [4], "y": [11]})}, schema)
    perfect = exactly.linear_regression("y ~ x")
    assert perfect.params.tolist() == [3, 2]
    assert perfect.rsquared == 1
    assert (perfect.llf, perfect.fvalue) == (None, None)
    saturated = vs.simulate({"a": pd.DataFrame({"x": [1], "y": [5]}), "b": pd.DataFrame({"x": [2], "y": [7]})}, schema)
    result = saturated.linear_regression("y ~ x")
    assert result.params.tolist() == [3, 2]
    assert (result.bse, result.rsquared_adj, result.scale) == (None, None, None)
    assert "Intercept" in str(result)


def test_summaries_read_like_statsmodels_in_text_html_and_latex():
    _, schema, tables = ALL["diabetes"]()
    result = vs.simulate(tables, schema).linear_regression("target ~ bmi + C(sex)")
    text = str(result.summary())
    assert "P>|t|" in text
    assert "R-squared" in text
    assert "C(sex)[T.m]" in result._repr_html_()
    assert r"\toprule" in result.to_latex()
    assert result.to_frame().columns.tolist() == ["coef", "std_err", "t", "p", "lower", "upper"]
