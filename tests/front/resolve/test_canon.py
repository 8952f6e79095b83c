"""The canonical form: one text for each model, whatever the files look like."""

import re
from pathlib import Path

import pytest

from tests.front.syntax.corpus import FILES
from tests.front.syntax.test_format import disturbed
from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import Spec, resolve
from wmdsl.resolve.canon import canon, identity
from wmdsl.source import Source
from wmdsl.syntax import parse, read_source
from wmdsl.vocabulary import FORMS

EXAMPLES = [path for path in FILES if path.stem != "everything"]
SMALL = """edition 2026

model policy "what it shows" {
  param chunk = 16 steps in 8..32
  stream state: proprio[4] at 80 Hz { now 1 step }
  stream action: action[4] at 80 Hz { future chunk }
  trunk doer: dit { layers 4; width 128; heads 4x32; tokens state, action }
  generate act: action by flow { time beta }
  attend { state sees state; action sees state, action }
  query policy: action | state
}
"""


def spec_of(text: str, name: str = "spec.wm", **parameters: object) -> Spec:
    diagnostics = Diagnostics()
    spec = resolve(parse(Source(name, text), diagnostics), parameters, diagnostics)
    assert spec is not None
    assert [entry.message for entry in diagnostics if entry.severity == "error"] == []
    return spec


def spec_at(path: Path, **parameters: object) -> Spec:
    diagnostics = Diagnostics()
    source = read_source(path, diagnostics)
    spec = resolve(parse(source, diagnostics), parameters, diagnostics)
    assert spec is not None
    return spec


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_canonical_form_is_its_own_canonical_form(path):
    text = canon(spec_at(path))
    again = canon(spec_of(text))
    assert again == text
    assert identity(again) == identity(text) and len(identity(text)) == 64


def test_layout_comments_and_names_of_files_do_not_matter():
    plain = canon(spec_of(SMALL))
    for seed in range(5):
        assert canon(spec_of(disturbed(SMALL, seed), f"other{seed}.wm")) == plain


def test_the_order_and_bundling_of_what_has_no_order_does_not_matter():
    other = (
        SMALL.replace("layers 4; width 128;", "width 128; layers 4;")
        .replace('"what it shows" ', "")
        .replace("state sees state; action sees state, action", "ROWS")
        .replace("ROWS", "action sees action, state; state sees state")
        .replace("beta", "beta(1.5)")
        .replace("chunk", "horizon")
    )  # fmt: skip
    assert canon(spec_of(other)) == canon(spec_of(SMALL))
    bundled = SMALL.replace("state sees state; action sees state", "state, action sees state")
    split = SMALL.replace(
        "state sees state; action sees state", "state sees state, action; action sees state"
    )
    assert canon(spec_of(bundled)) == canon(spec_of(split))


@pytest.mark.parametrize(
    ("old", "new"),
    [("layers 4", "layers 5"), ("by flow", "by regression"), ("time beta", "time uniform"),
     ("80 Hz { future", "40 Hz { future"), ("state, action }", "action, state }")],
)  # fmt: skip
def test_what_has_a_meaning_changes_the_identity(old, new):
    assert old in SMALL
    changed = spec_of(
        SMALL.replace(old, new).replace("{ time beta }", "" if "regr" in new else "{ time beta }")
    )
    assert canon(changed) != canon(spec_of(SMALL))


def test_every_default_is_written():
    text = canon(spec_of(SMALL))
    for row in FORMS["generate"].attributes_of("flow"):
        if row.default is not None:
            assert re.search(rf"^    {row.name} ", text, re.MULTILINE), row.name
    assert "time beta(1.5, 1)" in text
    assert "param" not in text and "future 16 steps" in text


def test_a_base_and_its_parameters_are_the_same_model_as_the_flat_text():
    flat = SMALL.replace("layers 4", "layers 2").replace("16 steps", "8 steps")
    layered = SMALL.replace("model policy", "model base") + (
        "\nmodel policy extends base {\n  override param chunk = 8 steps\n"
        "  override trunk doer { layers 2 }\n}\n"
    )
    assert canon(spec_of(layered)) == canon(spec_of(flat))
    assert canon(spec_of(flat)) == canon(spec_of(SMALL.replace("layers 4", "layers 2"), chunk=8))
