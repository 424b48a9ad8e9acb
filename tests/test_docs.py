"""README, documents and examples are true: their code runs, and what they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/insurers/README.md",
]


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.name)
def test_python_blocks_run_in_order(page, capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:veilstat|docs|tests|benchmarks|examples)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:language|schema|platform|architectures|protocol|transports|statistics)/[\w/]+\.py)", text):
        assert (ROOT / "veilstat" / path).exists(), path


def test_the_readmes_count_of_numbers_is_the_plans():
    names = {}
    first = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    exec(compile(first, "README.md", "exec"), names)
    assert names["result"].plan.openings == 18


def test_every_public_error_code_is_stable_snake_case():
    codes = set(re.findall(r'code="(\w+)"', "".join(path.read_text() for path in (ROOT / "veilstat").rglob("*.py"))))
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", code) for code in codes)
