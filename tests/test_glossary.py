"""One word for one thing: the glossary's words are in use, and those that it rejects are not."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "veilstat").rglob("*.py")))
CODE = SOURCE.lower().replace("_", " ")
GLOSSARY = ROOT / "docs/glossary.md"
PAGES = [path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")] if path != GLOSSARY]
PROSE = "\n".join(path.read_text() for path in PAGES).lower()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in GLOSSARY.read_text().splitlines() if line.startswith("| ")]
ENTRIES = [row for row in ROWS if row[0] != "word"]


@pytest.mark.parametrize("word", [word for row in ENTRIES for word in row[0].split(", ")])
def test_a_word_of_the_glossary_is_used(word):
    assert re.search(rf"\b{word}", CODE), f"{word!r} is in the glossary and nowhere in the code"


@pytest.mark.parametrize("word", [word for row in ENTRIES for word in row[2].split(", ") if word])
def test_a_word_that_the_glossary_rejects_is_not_used(word):
    assert not re.search(rf"\b{word}s?\b", CODE + PROSE), f"{word!r} is used; the glossary has another word for it"


def test_messages_call_an_owner_by_name_in_one_way():
    named = re.findall(r'f"[^"\n]*?(\w+) owner \{\w+(?:\.\w+)*!r\}', SOURCE)
    assert len(named) > 5
    assert set(named) == {"data"}
    assert not re.search(r'f"owner \{', SOURCE)


def test_the_glossary_defines_each_word_once():
    words = [word for row in ENTRIES for word in row[0].split(", ")]
    assert len(set(words)) == len(words)
