"""Imports, extends, override, drop, param and when: what the closed spec holds."""

from pathlib import Path

import pytest

from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import Spec, resolve
from wmdsl.resolve.diff import diff, diff_text
from wmdsl.source import Source
from wmdsl.syntax import parse
from wmdsl.syntax.text import attribute_text, head_text, row_text

LIBRARY = {
    "arm.wm": """edition 2026
model other { stream x: language }
model arm {
  param chunk = 16 steps in 8..32, 64
  param size = full in full, tiny
  stream action: action[4] at 80 Hz { future chunk; key "action" }
  codec eyes: conv { channels 32, 64 }
  trunk seer: dit { layers 4; width 192; tokens register[chunk], eyes(camera.now) }
  attend {
    order action by 2 * chunk
    a, b sees a
    b sees b where q - k <= chunk
  }
  when size is tiny { override trunk seer { width 32 } }
}
""",
}


def closed(text: str, model: str | None = None, **parameters: object) -> tuple[Spec, list[str]]:
    """The spec, and the codes of what was reported."""
    diagnostics = Diagnostics()

    def importer(path: Path, found: Diagnostics) -> Source | None:
        return Source(path.name, LIBRARY[path.name])

    file = parse(Source("spec.wm", text), diagnostics)
    spec = resolve(file, parameters, diagnostics, model=model, importer=importer)
    assert spec is not None
    return spec, [entry.code for entry in diagnostics]


def policy(entries: str, **parameters: object) -> Spec:
    text = f'edition 2026\nimport "arm.wm" as lib\nmodel policy extends lib.arm {{\n{entries}\n}}\n'
    spec, codes = closed(text, **parameters)
    assert codes == []
    return spec


def attributes(spec: Spec, name: str) -> list[str]:
    found = spec.find(name)
    assert found is not None
    return [attribute_text(part) for part in found.attributes]


def test_a_model_takes_over_what_it_extends():
    spec = policy("  stream text: language")
    assert [f"{part.form} {part.name.text}" for part in spec.declarations] == [
        "stream action", "stream text", "codec eyes", "trunk seer", "attend attend"]  # fmt: skip
    assert attributes(spec, "action") == ["future 16 steps", 'key "action"']


def test_override_merges_attributes_and_replaces_heads():
    spec = policy('  override stream action: action[7] at 40 Hz { key "act"; past 2 steps }')
    assert attributes(spec, "action") == ["future 16 steps", 'key "act"', "past 2 steps"]
    assert head_text(spec.find("action")) == "stream action: action[7] at 40 Hz"


def test_override_takes_subjects_out_of_the_rows_of_the_base():
    spec = policy("  override attend { b sees nothing; c sees a }")
    rows = [row_text(row) for row in spec.find("attend").rows]
    assert rows == ["order action by 2 * 16 steps", "a sees a", "b sees nothing", "c sees a"]


def test_drop_removes():
    assert policy("  drop attend attend").find("attend") is None


def test_parameters_reach_every_place_of_a_value():
    spec = policy("", chunk=8)
    assert attributes(spec, "seer")[-1] == "tokens register[8 steps], eyes(camera.now)"
    rows = [row_text(row) for row in spec.find("attend").rows]
    assert rows == ["order action by 2 * 8 steps", "a, b sees a", "b sees b where q - k <= 8 steps"]


def test_a_value_from_outside_keeps_its_origin():
    spec = policy("", chunk="8 steps")
    attribute = spec.find("action").attribute("future")
    (note,) = spec.notes(attribute.span)
    assert note == "`chunk` is 8 steps, set at -P chunk:1"
    assert spec.notes(spec.find("action").attribute("key").span) == ()


def test_when_acts_last_and_only_where_it_holds():
    wide = "  override trunk seer { width 512 }"
    assert attributes(policy(wide), "seer")[1] == "width 512"
    assert attributes(policy(wide, size="tiny"), "seer")[1] == "width 32"


def test_when_forgives_what_a_later_model_dropped():
    assert policy("  drop trunk seer", size="tiny").find("seer") is None


def test_a_declaration_takes_over_an_imported_one():
    text = 'edition 2026\nimport "arm.wm" as lib\nmodel policy {\n  param chunk = 8 steps\n'
    spec, codes = closed(
        text + "  trunk mine: lib.seer { layers 2 }\n  stream a: action[chunk]\n}\n"
    )
    assert codes == []
    assert head_text(spec.find("mine")) == "trunk mine: dit"
    assert attributes(spec, "mine") == [
        "layers 2", "width 192", "tokens register[8 steps], eyes(camera.now)"]  # fmt: skip


def test_the_last_model_is_the_file_s_own():
    text = "edition 2026\nmodel first {\n}\nmodel second extends first {\n}\n"
    assert closed(text)[0].name == "second"
    assert closed(text, "first")[0].name == "first"


def test_an_alias_alone_means_the_last_model_of_its_file():
    spec, codes = closed('edition 2026\nimport "arm.wm" as lib\nmodel policy extends lib {\n}\n')
    assert codes == [] and spec.find("seer") is not None


@pytest.mark.parametrize(
    ("given", "code"),
    [({"chnk": 8}, "WM108"), ({"chunk": 128}, "WM109"), ({"chunk": "8 frames"}, "WM110"),
     ({"size": "large"}, "WM109"), ({"size": 4}, "WM110"), ({"chunk": "8 }"}, "WM009"),
     ({"chunk": "8, 9"}, "WM012"), ({"chunk": ""}, "WM012")],
)  # fmt: skip
def test_values_from_outside_are_checked(given, code):
    text = 'edition 2026\nimport "arm.wm" as lib\nmodel policy extends lib.arm {\n}\n'
    _, codes = closed(text, **given)
    assert codes == [code]


def test_an_unknown_model_is_named():
    diagnostics = Diagnostics()
    file = parse(Source("spec.wm", "edition 2026\nmodel policy {\n}\n"), diagnostics)
    assert resolve(file, {}, diagnostics, model="polciy") is None
    (entry,) = diagnostics
    assert entry.code == "WM103" and entry.help == "did you mean `policy`?"


def test_one_root_cause_is_reported_once():
    text = (
        'edition 2026\nimport "arm.wm" as lib\nmodel policy extends lib.arn {\n'
        "  override trunk seer { layers 2 }\n  drop codec eyes\n}\n"
    )
    assert closed(text)[1] == ["WM103"]


def test_diff_says_what_changed():
    before = policy("")
    after = policy(
        "  override trunk seer { layers 6; width 192 }\n  drop codec eyes\n"
        "  override attend { b sees a }\n  query policy: action\n  assert a reaches b"
    )
    assert diff(before, before) == ()
    assert diff_text(diff(before, before)) == "no difference\n"
    assert diff_text(diff(before, after)) == (
        "codecs and trunks\n"
        "  - codec eyes: conv\n"
        "  ~ trunk seer\n"
        "      layers: 4  ->  6\n"
        "masks\n"
        "  ~ attend attend\n"
        "      - b sees b where q - k <= 16 steps\n"
        "queries\n"
        "  + query policy: action\n"
        "assertions\n"
        "  + assert a reaches b\n"
    )
