"""Who knows one statistic's file knows all: the same methods stand in the same order, and do nothing besides."""

import ast
from pathlib import Path

import pytest

import veilstat
from veilstat.statistics.registry import registry

FOLDER = Path(veilstat.__file__).parent / "statistics"
INTERFACE = ["columns", "steps", "run", "inferences", "private", "expected"]
CLASSES = {
    node.name: node
    for path in sorted(FOLDER.glob("*.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef) and any(isinstance(part, ast.FunctionDef) and part.name == "steps" for part in node.body)
}


def methods(name):
    return [part.name for part in CLASSES[name].body if isinstance(part, ast.FunctionDef)]


def test_every_statistic_is_looked_at():
    assert {kind.__name__ for kind in registry().values()} <= {*CLASSES, "Correlation"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_is_asked_of_a_statistic_stands_first_and_in_one_order(name):
    found = [method for method in methods(name) if method in INTERFACE]
    assert found == [method for method in INTERFACE if method in found]
    first_own = next((place for place, method in enumerate(methods(name)) if method.startswith("_") and method != "__post_init__"), None)
    assert first_own is None or not set(methods(name)[first_own:]) & set(INTERFACE)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_contributions_and_combines_are_methods_of_their_statistic(name):
    [steps] = [part for part in CLASSES[name].body if isinstance(part, ast.FunctionDef) and part.name == "steps"]
    assert not any(isinstance(node, ast.Lambda) or (isinstance(node, ast.FunctionDef) and node is not steps) for node in ast.walk(steps))
