"""Each file in a folder `mistakes` gets exactly the messages that it announces, word for word."""

from pathlib import Path

import pytest

from tests.front.mistakes import expected, places, resolved
from wmdsl.diagnostics.render import to_text

HERE = Path(__file__).parent
FILES = sorted([*HERE.glob("syntax/mistakes/*.wm"), *HERE.glob("resolve/mistakes/*.wm")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_a_mistake_gets_its_code_at_its_line_and_nothing_else(path, golden):
    found = resolved(path)
    assert places(found) == expected(path)
    golden(path.with_suffix(".txt"), to_text(found).replace(str(path.parent), "FOLDER"))


def test_there_are_mistakes():
    assert len(FILES) > 50
