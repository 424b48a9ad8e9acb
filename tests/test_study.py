"""Studies as people meet them: errors that help, plans that are pure, owners that refuse."""

import numpy as np
import pandas as pd
import pytest

import veilstat as vs
from veilstat.testing.tables import small_schema, small_tables

SCHEMA, TABLES = small_schema(), small_tables()


@pytest.fixture
def study():
    return vs.simulate(TABLES, SCHEMA)


def changed(owner="owner2", **columns):
    return {**TABLES, owner: TABLES[owner].assign(**columns)}


@pytest.mark.parametrize(
    ("ask", "kind", "code"),
    [
        (lambda s: s.mean("nope"), vs.SchemaError, "unknown_column"),
        (lambda s: s.mean("region"), vs.SchemaError, "wrong_type"),
        (lambda s: s.mean([]), vs.SchemaError, "bad_columns"),
        (lambda s: s.mean(["age", "age"]), vs.SchemaError, "bad_columns"),
        (lambda s: s.mean(3), vs.SchemaError, "bad_columns"),
        (lambda s: s.mean("age", missing="pairwise"), vs.SchemaError, "bad_option"),
        (lambda s: s.count("nope"), vs.SchemaError, "unknown_column"),
        (lambda s: s.histogram("region"), vs.SchemaError, "wrong_type"),
        (lambda s: s.histogram("bp", bins=[3, 2]), vs.SchemaError, "bad_bins"),
        (lambda s: s.crosstab("region", "bmi"), vs.SchemaError, "wrong_type"),
        (lambda s: s.crosstab("region", "region"), vs.SchemaError, "bad_columns"),
        (lambda s: s.groupby("bp").mean("age"), vs.SchemaError, "wrong_type"),
        (lambda s: s.groupby("region").mean("region"), vs.SchemaError, "bad_columns"),
        (lambda s: s.linear_regression("bp"), vs.SchemaError, "bad_formula"),
        (lambda s: s.linear_regression("bp ~"), vs.SchemaError, "bad_formula"),
        (lambda s: s.linear_regression("bp ~ age +"), vs.SchemaError, "bad_formula"),
        (lambda s: s.linear_regression("bp ~ age; import os"), vs.SchemaError, "bad_formula"),
        (lambda s: s.linear_regression("bp ~ 0"), vs.SchemaError, "bad_formula"),
        (lambda s: s.linear_regression("bp ~ nope"), vs.SchemaError, "unknown_column"),
        (lambda s: s.linear_regression("region ~ age"), vs.SchemaError, "bad_formula"),
        (lambda s: s.linear_regression("bp ~ log(age)"), vs.CapabilityError, "needs_derived"),
        (lambda s: s.linear_regression("bp ~ eval('1')"), vs.CapabilityError, "unknown_function"),
        (lambda s: s.linear_regression("bp ~ C(region, Treatment('sea'))"), vs.SchemaError, "unknown_level"),
        (lambda s: s.linear_regression("bp ~ I(age**9)"), vs.CapabilityError, "unknown_function"),
        (lambda s: s.linear_regression("bp ~ I(bmi**8):I(bp**2)"), vs.RangeError, "too_wide"),
        (lambda s: s.linear_regression("bp ~ C(bmi)"), vs.SchemaError, "wrong_type"),
        (lambda s: s.linear_regression("bp ~ age", method="magic"), vs.SchemaError, "bad_option"),
        (lambda s: s.logistic_regression("smoker ~ age"), vs.CapabilityError, "not_available"),
        (lambda s: s.run("mean"), vs.SchemaError, "bad_query"),
        (lambda s: s.run(vs.Mean("age"), privacy=1.0), vs.SchemaError, "bad_privacy"),
    ],
)
def test_a_bad_query_is_refused_before_anybody_is_contacted(study, ask, kind, code):
    with pytest.raises(kind) as error:
        ask(study)
    assert error.value.code == code
    assert isinstance(error.value, vs.VeilstatError)
    assert str(error.value).endswith(f"[{code}]")
    assert not study.observed["server"].frames


@pytest.mark.parametrize(
    ("make", "kind", "code"),
    [
        (lambda: vs.simulate({"a": TABLES["owner1"]}, SCHEMA), vs.CapabilityError, "too_few_owners"),
        (lambda: vs.simulate({}, SCHEMA), vs.CapabilityError, "too_few_owners"),
        (lambda: vs.simulate(TABLES, SCHEMA, "magic"), vs.CapabilityError, "unknown_architecture"),
        (lambda: vs.simulate(TABLES, SCHEMA, 7), vs.CapabilityError, "unknown_architecture"),
        (lambda: vs.simulate(TABLES, SCHEMA, vs.Masking(colluding=4)), vs.CapabilityError, "threshold_unreachable"),
        (lambda: vs.simulate(TABLES, SCHEMA, vs.Masking(min_owners=6)), vs.CapabilityError, "threshold_unreachable"),
        (lambda: vs.Masking(threat="active"), vs.CapabilityError, "not_available"),
        (lambda: vs.Masking(threat="nice"), vs.CapabilityError, "bad_configuration"),
        (lambda: vs.Masking(recipient="everybody"), vs.CapabilityError, "bad_configuration"),
        (lambda: vs.simulate([TABLES], SCHEMA), vs.SchemaError, "wrong_type"),
        (lambda: vs.simulate(TABLES, "schema"), vs.SchemaError, "wrong_type"),
        (lambda: vs.simulate({**TABLES, "x": [1]}, SCHEMA), vs.SchemaError, "wrong_type"),
        (lambda: vs.simulate({**TABLES, "server": TABLES["owner1"]}, SCHEMA), vs.SchemaError, "bad_owner"),
        (lambda: vs.simulate({**TABLES, "": TABLES["owner1"]}, SCHEMA), vs.SchemaError, "bad_owner"),
        (lambda: vs.simulate({**TABLES, "n" * 33: TABLES["owner1"]}, SCHEMA), vs.SchemaError, "bad_owner"),
        (lambda: vs.simulate(TABLES, SCHEMA, policies={"nobody": vs.Policy()}), vs.SchemaError, "bad_owner"),
    ],
)
def test_a_bad_study_is_refused_when_it_is_made(make, kind, code):
    with pytest.raises(kind) as error:
        make()
    assert error.value.code == code


@pytest.mark.parametrize(
    ("tables", "kind", "code", "column"),
    [
        (changed(age=17), vs.RangeError, "out_of_bounds", "age"),
        (changed(bmi=np.inf), vs.RangeError, "out_of_bounds", "bmi"),
        (changed(age="old"), vs.SchemaError, "wrong_type", "age"),
        (changed(region="sea"), vs.SchemaError, "unknown_level", "region"),
        (changed(smoker=2), vs.SchemaError, "unknown_level", "smoker"),
        ({**TABLES, "owner2": TABLES["owner2"].drop(columns="age")}, vs.SchemaError, "missing_column", "age"),
    ],
)
def test_bad_data_names_owner_and_column_and_holds_no_value(tables, kind, code, column):
    study = vs.simulate(tables, SCHEMA)
    query = {"region": lambda: study.crosstab("region", "smoker")}.get(column, lambda: study.mean(column))
    with pytest.raises(kind) as error:
        query()
    assert error.value.code == code
    assert "'owner2'" in error.value.message
    assert f"'{column}'" in error.value.message
    assert error.value.culprits == ("owner2",)
    for value in ("17", "inf", "old", "sea"):
        assert value not in error.value.message.replace("old", "old" if value == "old" and "old" in tables else "")


def test_bad_data_in_another_column_does_not_matter():
    study = vs.simulate(changed(age=17), SCHEMA)
    assert study.mean("bp").n == sum(map(len, TABLES.values()))


def test_too_many_rows_are_refused():
    table = pd.concat([TABLES["owner1"]] * 2)
    with pytest.raises(vs.RangeError) as error:
        vs.simulate({**TABLES, "owner1": table}, SCHEMA).count()
    assert error.value.code == "too_many_rows"


def test_nothing_to_compute_from_is_an_error_and_an_empty_owner_is_not():
    empty = {name: table.iloc[:0] for name, table in TABLES.items()}
    for query in (
        lambda s: s.mean("age"),
        lambda s: s.linear_regression("bp ~ age"),
        lambda s: s.histogram("bp"),
        lambda s: s.crosstab("region", "smoker"),
    ):
        with pytest.raises(vs.SchemaError) as error:
            query(vs.simulate(empty, SCHEMA))
        assert error.value.code in ("no_rows", "singular_design")
    assert vs.simulate(empty, SCHEMA).count().estimate == 0
    one = {**TABLES, "owner3": TABLES["owner3"].iloc[:0], "owner4": TABLES["owner4"].assign(bmi=np.nan)}
    result = vs.simulate(one, SCHEMA).mean("bmi")
    assert result.estimate == pytest.approx(SCHEMA.quantise(pd.concat(one.values()))["bmi"].mean(), rel=1e-12)
    assert "owner3" in result.contributors


def test_a_missing_value_everywhere_is_no_rows():
    tables = {name: table.assign(bmi=np.nan) for name, table in TABLES.items()}
    study = vs.simulate(tables, SCHEMA)
    for ask in (lambda: study.mean("bmi"), lambda: study.linear_regression("bmi ~ age"), lambda: study.linear_regression("age ~ 1 + bmi")):
        with pytest.raises(vs.SchemaError, match="bmi") as error:
            ask()
        assert error.value.code == "no_rows"


def test_two_owners_are_enough_and_a_hundred_are_not_too_many():
    two = {name: TABLES[name] for name in ("owner1", "owner2")}
    assert vs.simulate(two, SCHEMA).count().estimate == 64 + 57
    many = {f"o{place}": TABLES["owner5"].iloc[: place % 5] for place in range(100)}
    assert vs.simulate(many, SCHEMA).count().estimate == 200


def test_a_plan_contacts_nobody_and_equals_what_runs(study):
    query = vs.LinearRegression("bp ~ age + bmi")
    plan = study.plan(query)
    assert not study.observed["server"].frames
    result = study.run(query)
    assert result.plan.digest == plan.digest
    assert (result.cost.rounds, result.cost.bytes_per_owner) == (plan.rounds, plan.bytes_per_owner)
    assert plan.ring_bits == 32
    assert plan.privacy is None
    assert sum(entry.count for entry in plan.disclosures) == plan.openings == 13


def test_the_digest_names_everything_that_was_agreed():
    def digest(query=None, schema=SCHEMA, architecture="masking", tables=TABLES, **options):
        return vs.simulate(tables, schema, architecture, **options).plan(query or vs.Mean("age")).digest

    plain = digest()
    assert plain == digest()
    others = {
        digest(vs.Mean("bp")), digest(vs.Mean(("age",))), digest(vs.Variance("age")), digest(schema=vs.Schema(*SCHEMA.columns, max_rows=65)),
        digest(architecture="clear"), digest(architecture=vs.Masking(colluding=2)), digest(architecture=vs.Masking(recipient="server")),
        digest(tables={name: TABLES[name] for name in list(TABLES)[1:]}), digest(policies={"owner1": vs.Policy(min_owners=3)}),
    }  # fmt: skip
    assert len(others | {plain}) == 10


def test_a_plan_reads_well(study):
    text = str(study.plan(vs.LinearRegression("bp ~ age + bmi + C(region)")))
    for words in (
        "Plan of linear_regression('bp ~ age + bmi + C(region)')", "the analyst learns 24 numbers", "cross-products of (1, region=hills, … bp)",
        "threshold 3 = max(colluding + 2, min_owners)", "up to 2 owners may drop out", "bits hold the widest total (5 owners x 64 rows x",
        "bmi is rounded to 0.1: adds step^2/12", "how many rows each level has", "5 rounds",
    ):  # fmt: skip
        assert words in text, words
    assert max(map(len, text.splitlines())) <= 140
    assert "<table>" in study.plan(vs.Mean("age"))._repr_html_()


def test_results_carry_their_receipt_and_render(study):
    result = study.mean(["age", "bmi"])
    assert result.contributors == tuple(sorted(TABLES))
    assert result.privacy is None
    assert result.cost.seconds > 0
    assert result.to_frame().loc["bmi", "n_missing"] == result.n_missing["bmi"]
    assert "estimate" in str(result.summary())
    assert "<table>" in result._repr_html_()
    assert r"n\_missing" in result.to_latex()
    assert "Study of 5 data owners" in repr(study)
    assert "<table>" in study._repr_html_()


def test_a_study_offers_its_statistics_by_name(study):
    assert {"mean", "linear_regression", "crosstab"} <= set(dir(study))
    assert "standard errors" in study.mean.__doc__
    with pytest.raises(AttributeError, match="its statistics are"):
        study.median("age")
    assert {"Mean", "LinearRegression", "simulate"} <= set(dir(vs))
    with pytest.raises(AttributeError):
        vs.Median


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (vs.Policy(statistics=("count",)), "statistic_denied"),
        (vs.Policy(columns=("age",)), "column_denied"),
        (vs.Policy(most_openings=3), "too_many_openings"),
    ],
)
def test_an_owner_refuses_what_its_policy_does_not_permit(policy, code):
    study = vs.simulate(TABLES, SCHEMA, policies={"owner2": policy})
    with pytest.raises(vs.PolicyDenied, match="owner2") as error:
        study.mean("bp")
    assert error.value.code == code
    assert not study.observed["analyst"].opened
    assert study.count().estimate > 0


def test_an_owner_may_demand_more_companions():
    study = vs.simulate(TABLES, SCHEMA, policies={"owner2": vs.Policy(min_owners=5)}, faults=[vs.testing.Dropout("owner1", "masked_input")])
    with pytest.raises(vs.PolicyDenied, match="at least 5"):
        study.mean("bp")
    assert not study.observed["analyst"].opened


def test_the_difference_of_two_answers_never_isolates_an_owner():
    """The attack: ask once over all, once without one owner, subtract."""
    study = vs.simulate(TABLES, SCHEMA, faults=[vs.testing.Dropout("owner3", "masked_input", after=1)])
    study.mean("age")
    with pytest.raises(vs.PolicyDenied, match="owner3") as error:
        study.mean("age")
    assert error.value.code == "isolating_difference"
    with pytest.raises(vs.PolicyDenied):
        study.sum("age")
    assert len(study.observed["analyst"].opened) == 1
    fresh = vs.simulate(TABLES, SCHEMA, faults=[vs.testing.Dropout("owner3", "masked_input")])
    assert fresh.mean("age").contributors == ("owner1", "owner2", "owner4", "owner5")
    assert fresh.mean("age").estimate == fresh.mean("age").estimate


def test_an_owner_that_is_lost_in_an_iteration_ends_the_query():
    study = vs.simulate(TABLES, SCHEMA, faults=[vs.testing.Dropout("owner3", "masked_input")])
    with pytest.raises(vs.QuorumLost, match="owner3") as error:
        study.linear_regression("bp ~ age", method="gradient_descent")
    assert error.value.code == "owner_lost"
    assert [label for label, _ in study.observed["analyst"].opened] == ["scaling"]


def test_after_a_failed_query_the_next_one_works():
    study = vs.simulate(TABLES, SCHEMA, faults=[vs.testing.Tamper("owner3", "masked_input")])
    with pytest.raises(vs.ProtocolViolation) as error:
        study.mean("age")
    assert error.value.culprits == ("owner3",)
    study._backend.network.faults = ()
    assert study.mean("bp").n == sum(map(len, TABLES.values()))


def test_a_lying_owner_in_unmasking_is_named_and_nothing_is_opened():
    study = vs.simulate(TABLES, SCHEMA, faults=[vs.testing.Lie("owner2", "unmasking")])
    with pytest.raises(vs.ProtocolViolation, match="owner2") as error:
        study.mean("age")
    assert error.value.culprits == ("owner2",)
    assert not study.observed["analyst"].opened


def test_the_clear_twin_says_that_it_protects_nothing():
    assert "nothing is protected" in str(vs.simulate(TABLES, SCHEMA, "clear").plan(vs.Mean("age")))
    assert vs.simulate({"a": TABLES["owner1"]}, SCHEMA, "clear").count().estimate == 64


def test_the_server_learns_totals_only_where_the_plan_says_so():
    sealed, open_to_server = vs.simulate(TABLES, SCHEMA), vs.simulate(TABLES, SCHEMA, vs.Masking(recipient="server"))
    for study, recipients in ((sealed, ("analyst",)), (open_to_server, ("analyst", "server"))):
        result = study.mean("age")
        assert {entry.recipients for entry in result.plan.disclosures} == {recipients}
        assert bool(study.observed["server"].opened) == ("server" in recipients)
        [(_, released)] = study.observed["analyst"].opened
        raw = np.array([int(value) for value in released.values], dtype="<u4").tobytes()
        assert (raw in study.observed["analyst"].payload_bytes) == ("server" in recipients)


@pytest.mark.parametrize(
    "make",
    [
        lambda: vs.Policy(statistics="mean"), lambda: vs.Policy(columns=5), lambda: vs.Policy(min_owners=None), lambda: vs.Policy(most_openings=1.5),
        lambda: vs.simulate(TABLES, SCHEMA, policies={"owner1": None}), lambda: vs.simulate(TABLES, SCHEMA, policies=5),
        lambda: vs.simulate(TABLES, SCHEMA, faults=5), lambda: vs.simulate(TABLES, SCHEMA, faults=[None]),
        lambda: vs.simulate(TABLES, SCHEMA, faults=[vs.testing.Dropout("owner9", "unmasking")]), lambda: vs.simulate(TABLES, SCHEMA, vs.Masking),
        lambda: vs.simulate(TABLES, SCHEMA, vs.Masking(colluding="1")), lambda: vs.simulate(TABLES, SCHEMA, vs.Masking(colluding=float("nan"))),
        lambda: vs.simulate(TABLES, SCHEMA, vs.Masking(min_owners=True)), lambda: vs.simulate(TABLES, SCHEMA, vs.Masking(threat=np.array(["a", "b"]))),
    ],
)  # fmt: skip
def test_settings_of_the_wrong_type_are_refused_when_they_are_made(make):
    with pytest.raises(vs.VeilstatError):
        make()


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.mean(), lambda s: s.mean("age", None, 3), lambda s: s.mean("age", column="age"), lambda s: s.plan(vs.Mean), lambda s: s.count(progress=5),
        lambda s: s.mean("age", missing=np.array(["a", "b"])), lambda s: s.groupby(np.array(["sex", "age"])).mean("age"), lambda s: s.crosstab(None, ["a"]),
        lambda s: s.histogram("age", bins=[1, 10**400]), lambda s: s.histogram(["age"]), lambda s: s.linear_regression("bp ~ age", method=[]),
        lambda s: s.linear_regression("bp ~ age", rate="1"), lambda s: s.linear_regression("bp ~ age", tolerance=None),
        lambda s: s.linear_regression("bp ~ age", standardise=np.array([1, 2])), lambda s: s.logistic_regression("female ~ age", method=None),
    ],
)  # fmt: skip
def test_arguments_of_the_wrong_type_are_coded_errors(study, ask):
    with pytest.raises(vs.VeilstatError):
        ask(study)
