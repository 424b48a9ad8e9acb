"""Statistics and architectures are found by name: in their folder, in installed packages, or given to one study. Code never travels."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

import veilstat as vs
from veilstat.platform.planner import make_planner
from veilstat.platform.study import Study
from veilstat.statistics.moments import Mean
from veilstat.statistics.registry import registry
from veilstat.testing.tables import small_schema, small_tables

ROOT = Path(__file__).parent.parent
SCHEMA, TABLES = small_schema(), small_tables()


@dataclass(frozen=True)
class Average(Mean):
    """The mean, under another name."""

    name: ClassVar[str] = "average"


@dataclass(frozen=True)
class OtherAverage(Mean):
    """Another statistic under the same name: it counts twice."""

    name: ClassVar[str] = "average"

    def steps(self, schema):
        (step,) = super().steps(schema)
        return (replace(step, contribution=lambda rows, public: {k: v + v for k, v in step.contribution(rows, public).items()}),)


def test_a_study_runs_a_statistic_that_it_was_given():
    study = vs.simulate(TABLES, SCHEMA, statistics=[Average])
    assert study.average("bp").estimate == study.mean("bp").estimate
    assert "average" in dir(study)
    assert "average" not in registry()
    with pytest.raises(AttributeError):
        vs.simulate(TABLES, SCHEMA).average


@pytest.mark.parametrize(
    ("architecture", "lacking"), [("masking", "agents"), ("sharing", "machines")], ids=["a data owner", "a compute server"]
)
@pytest.mark.parametrize(("known", "code"), [((), "unknown_statistic"), ((OtherAverage,), "plan_differs")], ids=["lacks it", "has another"])
def test_nothing_is_opened_where_one_party(architecture, lacking, known, code):
    study = vs.simulate(TABLES, SCHEMA, architecture, statistics=[Average])
    backend = study._backend
    party = backend.agents["owner2"] if lacking == "agents" else backend.network.machines["compute2"]
    party.planner = make_planner(*known)
    with pytest.raises(vs.VeilstatError) as error:
        study.average("bp")
    assert error.value.code == code
    assert not study.observed["analyst"].opened
    assert study.mean("bp").n > 0


PARTS = dict.fromkeys(("columns", "steps", "run", "inferences"), len)


def no_dataclass(name):
    return type("Bare", (), {"name": name, **PARTS})


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (dataclass(frozen=True)(type("Taken", (Mean,), {"name": "mean"})), "name_taken", "already"),
        (dataclass(frozen=True)(type("Hidden", (Mean,), {"name": "groupby"})), "name_taken", "something else"),
        (dataclass(frozen=True)(type("Shadowed", (Mean,), {"name": "definition"})), "name_taken", "something else"),
        (dataclass(frozen=True)(type("Spaced", (Mean,), {"name": "my mean"})), "bad_statistic", "needs a name"),
        (dataclass(frozen=True)(type("Nameless", (), {"steps": len})), "bad_statistic", "columns()"),
        (no_dataclass("bare"), "bad_statistic", "frozen=True"),
        (Average("bp"), "bad_statistic", "frozen=True"),
        (dataclass(type("Changing", (), {"name": "changing", **PARTS})), "bad_statistic", "frozen=True"),
        (len, "bad_statistic", "frozen=True"),
    ],
)
def test_what_is_no_statistic_is_refused(kind, code, words):
    with pytest.raises(vs.SchemaError, match=re.escape(words)) as error:
        vs.simulate(TABLES, SCHEMA, statistics=[kind])
    assert error.value.code == code


def test_a_statistic_cannot_hide_what_a_study_has():
    for name in vars(Study):
        assert name not in registry()


def blocks(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorials" / page).read_text(), flags=re.DOTALL))


def until(text, mark):
    """The part of a tutorial's code that is the file itself."""
    return text[: text.index(mark)]


def run(folder, code):
    return subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": ""}, capture_output=True, text=True, check=False
    )


USE = """
import veilstat as vs
from veilstat.platform.query import parse_query
from veilstat.statistics.registry import registry
from veilstat.testing.tables import small_schema, small_tables
schema = vs.Schema(*small_schema(), vs.Derived("log_bp", "log(bp)", step=1e-3))
study = vs.simulate(small_tables(), schema, "two_servers")
assert type(study.definition.architecture) is vs.TwoServers
print(study.geometric_mean("bp"), study.run(parse_query('geometric_mean("bp")', registry())).estimate, vs.GeometricMean)
"""


@pytest.fixture
def files(tmp_path):
    """The two tutorials' files as a stranger would save them."""
    (tmp_path / "geometric.py").write_text(until(blocks("statistic.md"), "random = np.random"))
    (tmp_path / "two_servers").mkdir()
    (tmp_path / "two_servers/__init__.py").write_text("from .architecture import TwoServers\n\n__all__ = ['TwoServers']\n")
    (tmp_path / "two_servers/architecture.py").write_text(until(blocks("architecture.md"), "import veilstat as vs"))
    return tmp_path


def test_a_file_and_a_folder_beside_the_others_are_enough(files):
    beside = f"import veilstat.statistics, veilstat.architectures\nfor p in (veilstat.statistics, veilstat.architectures): p.__path__.append({str(files)!r})\n"
    done = run(files, beside + USE)
    assert done.returncode == 0, done.stderr
    assert "geometric mean of bp" in done.stdout


OFFERS = """[veilstat.statistics]
geometric_mean = geometric:GeometricMean
[veilstat.architectures]
two_servers = two_servers:TwoServers
"""


def test_an_installed_package_is_enough(files):
    (files / "bank-0.1.dist-info").mkdir()
    (files / "bank-0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: bank\nVersion: 0.1\n")
    (files / "bank-0.1.dist-info/entry_points.txt").write_text(OFFERS)
    done = run(files, USE)
    assert done.returncode == 0, done.stderr
    (files / "bank-0.1.dist-info/entry_points.txt").write_text(OFFERS.replace("two_servers =", "masking ="))
    done = run(files, USE)
    assert "bad_architecture" in done.stderr
