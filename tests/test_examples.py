"""The demo, the notebook and the installed wheel run, from outside the checkout too."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from rich.console import Console
from typer.testing import CliRunner

import veilstat as vs
from veilstat.platform import demo
from veilstat.platform.cli import app, main
from veilstat.platform.study_file import load_study
from veilstat.statistics.moments import Mean

ROOT = Path(__file__).parent.parent
SCHEMA = "[schema]\ncolumns = [{kind = 'binary', name = 'x'}]"
STUDY = str(ROOT / "examples/insurers/study.toml")
POOLED = {
    "Intercept": 1.737941, "lncoins": -0.169503, "idp": -0.753331, "disea": 0.121670,
}  # fmt: skip


def invoke(*args):
    return CliRunner().invoke(app, args)


def test_the_demo_goes_on_where_tenseal_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenseal", None)
    monkeypatch.setattr(demo, "LinearRegression", lambda formula: Mean("mdvis"))
    console = Console(record=True, width=200, file=io.StringIO())
    schema, tables = demo.Schema.from_toml(demo.example_folder() / "schema.toml"), demo.load_tables(demo.example_folder())
    demo._encrypted(console, tables, schema, demo.simulate(tables, schema, demo.Masking(colluding=1)))
    assert "This part was left out: homomorphic encryption needs TenSEAL" in console.export_text()


def test_the_insurers_regression_has_the_published_coefficients():
    result = load_study(STUDY).linear_regression("mdvis ~ lncoins + idp + lpi + fmde + physlm + disea + hlthg + hlthf + hlthp")
    assert {term: round(result.params[term], 6) for term in POOLED} == POOLED
    assert round(result.rsquared, 7) == 0.0687248
    assert result.n == 20190


def test_plan_and_run_on_the_command_line():
    plan = invoke("plan", STUDY, 'mean("mdvis")')
    assert plan.exit_code == 0
    assert "the analyst learns 4 numbers" in plan.output
    table = invoke("run", STUDY, 'mean("mdvis")')
    assert "2.8604" in table.output
    plain = json.loads(invoke("run", STUDY, 'linear_regression("mdvis ~ disea")', "--json").output)
    assert plain["n"] == 20190
    assert set(plain["estimate"]["disea"]) == {"coef", "std_err", "t", "p", "lower", "upper"}
    assert plain["plan"] in invoke("plan", STUDY, 'linear_regression("mdvis ~ disea")').output
    by = json.loads(invoke("run", STUDY, 'groupby("hlthp").mean("mdvis")', "--json").output)
    assert by["n"] == {"0": 19888, "1": 302}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", STUDY, 'mean("nope")'), "there is no column 'nope'"),
        (("run", STUDY, "mean(__import__('os'))"), "bad_query"),
        (("plan", "/nowhere.toml", "count()"), "there is no file"),
    ],
)
def test_errors_on_the_command_line_are_one_line_and_exit_with_1(arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["veilstat", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1
    assert words in line


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("architecture = 'masking'", "missing_key"),
        (f"[owners]\na = 'a.csv'\n{SCHEMA}", "no_file"),
        (f"[owners]\na = 'schema.toml'\n{SCHEMA}", "wrong_type"),
        (f"architecture = ['masking']\n[owners]\na = 'ok.csv'\n{SCHEMA}", "unknown_architecture"),
        (f"[masking]\ncolluding = 'many'\n[owners]\na = 'ok.csv'\nb = 'ok.csv'\n{SCHEMA}", "bad_configuration"),
        ("x = " + "[" * 3000, "bad_toml"),
        (
            "architecture = 'magic'\n[owners]\na = 'ok.csv'\nb = 'ok.csv'\n[schema]\ncolumns = [{kind = 'binary', name = 'x'}]",
            "unknown_architecture",
        ),
        ("schema = 3\n[owners]\na = 'ok.csv'", "missing_key"),
        ("speed = 3\n[owners]\na = 'ok.csv'", "unknown_key"),
        (
            "[masking]\npower = 3\n[owners]\na = 'ok.csv'\nb = 'ok.csv'\n[schema]\ncolumns = [{kind = 'binary', name = 'x'}]",
            "unknown_option",
        ),
        ("owners = [", "bad_toml"),
    ],
)
def test_a_bad_study_file_says_what_is_wrong(tmp_path, text, code):
    (tmp_path / "study.toml").write_text(text)
    (tmp_path / "ok.csv").write_text("x\n1\n0\n")
    with pytest.raises(vs.VeilstatError) as error:
        load_study(tmp_path / "study.toml")
    assert error.value.code == code


def test_the_doctor_finds_this_machine_well():
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "keystream" in result.output


def test_the_notebook_runs():
    notebook = nbformat.read(ROOT / "examples/insurers/study.ipynb", as_version=4)
    stored = "".join(json.dumps(cell.get("outputs", [])) for cell in notebook.cells)
    assert "1.737941" in stored
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT / "examples/insurers")}})
    client.execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("isolating_difference" in text for text in texts)
    assert sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])) == 2


STORY = (
    "nobody sees a row", "the analyst learns 69 numbers", "mean of mdvis", "1.7379", "-0.7533", "0.0687", "Caveat", "exactly the true total",
    "cedar vanished", "pooled without cedar", "would be cedar's", "the others decrypt without it", "to the last bit",
)  # fmt: skip


def test_the_demo_of_an_installed_wheel_tells_the_whole_story_outside_the_checkout(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = "import veilstat; print(veilstat.__file__)"
    found = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    assert found.stdout.startswith(str(tmp_path))
    demo = subprocess.run([sys.executable, "-m", "veilstat", "demo"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert demo.returncode == 0, demo.stderr
    told = " ".join(demo.stdout.split())
    assert not [words for words in STORY if words not in told]
    assert not (tmp_path / "site" / "tests").exists()


HEAVY = ("ray", "tenseal", "numba", "formulaic", "dp_accounting", "scipy.stats", "statsmodels", "matplotlib", "sklearn")


@pytest.mark.parametrize("statement", ["import veilstat", "import veilstat as vs; vs.simulate, vs.Mean, vs.Masking, vs.Homomorphic()"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_costs_little_more_than_an_empty_interpreter():
    def seconds(statement):
        code = f"{statement}\nimport time; print(time.process_time())"
        return min(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout) for _ in range(3))

    assert seconds("import veilstat") - seconds("pass") < 0.6


def test_statistics_and_examples_agree_with_pandas_on_every_insurer():
    study = load_study(STUDY)
    tables = [agent.table._frame for agent in study._backend.agents.values()]
    means = [round(float(np.mean(table["mdvis"])), 2) for table in tables]
    assert means == [3.44, 2.70, 1.92, 2.32, 2.37]
    assert tables[-1]["hlthp"].sum() == 0


def test_csv_tables_keep_text_levels_and_levels_that_look_like_missing_words(tmp_path):
    (tmp_path / "a.csv").write_text("code,harm\n01,None\n02,\n01,some\n")
    (tmp_path / "b.csv").write_text("code,harm\n02,NA\n02,some\n")
    columns = (
        "[{kind = 'categorical', name = 'code', levels = ['01', '02']}, {kind = 'categorical', name = 'harm', levels = ['None', 'some']}]"
    )
    (tmp_path / "study.toml").write_text(f"[owners]\na = 'a.csv'\nb = 'b.csv'\n[schema]\ncolumns = {columns}")
    result = load_study(tmp_path / "study.toml").crosstab("code", "harm")
    assert result.estimate.to_numpy().tolist() == [[1, 1], [0, 1]]
    assert result.n_missing == 2
