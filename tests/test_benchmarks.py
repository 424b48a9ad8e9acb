"""Benchmarks run, on sizes so small that their numbers mean nothing, and docs/benchmarks.md has the commands that they state."""

import re
from pathlib import Path

import pytest

from benchmarks import homomorphic, homomorphic_rows, masking, measuring

ROOT = Path(__file__).parent.parent
BENCHMARKS = [path for path in (ROOT / "benchmarks").glob("*.py") if 'if __name__ == "__main__"' in path.read_text()]
COMMANDS = re.compile(r"^ *(OMP_NUM_THREADS=1 python -m benchmarks\.\w+)", flags=re.MULTILINE)


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_documents_and_docstrings_have_the_same_commands(path):
    command = f"OMP_NUM_THREADS=1 python -m benchmarks.{path.stem}"
    assert set(COMMANDS.findall(path.read_text())) == {command}
    assert command in (ROOT / "docs/benchmarks.md").read_text()


def test_every_command_of_the_documents_is_a_benchmark():
    for page in (ROOT / "docs").rglob("*.md"):
        for name in re.findall(r"python -m benchmarks\.(\w+)", page.read_text()):
            assert (ROOT / f"benchmarks/{name}.py").exists(), (page, name)


def test_a_table_has_as_many_cells_in_every_line():
    assert measuring.heading("a", "b").splitlines() == ["| a | b |", "|---|---|"]
    assert measuring.row(1, "x") == "| 1 | x |"


def test_masking_beside_its_floor(capsys):
    masking.report(5, 20, 100, 64)
    masking.measure_memory(3, 1000)
    line, memory = capsys.readouterr().out.splitlines()
    assert len(cells(line)[0]) == 10
    assert "3 vectors of 1,000 64-bit entries" in memory


def test_encrypted_totals_beside_one_key(monkeypatch):
    monkeypatch.setattr(homomorphic, "REPETITIONS", 1)
    [line] = cells(homomorphic.whole_line(2, 3, 18, 40))
    assert len(line) == len(homomorphic.OWNERS) + 1 + len(homomorphic.PATHS)
    [line] = cells(homomorphic.threshold_line(3, 3, 3, 18, 40))
    assert len(line) == len(homomorphic.THRESHOLDS)


def test_encrypted_rows_beside_one_key(capsys):
    homomorphic_rows.by_party(homomorphic_rows.Size(owners=2, rows=20, columns=20, smudging=64))
    assert {len(line) for line in cells(capsys.readouterr().out)} == {3}
