"""Autoregressive tokens must not see what they predict, however the row is written."""

import pytest

from tests.front.check.spec import POLICY, model_of
from tests.front.check.test_mistakes import diagnose
from wmdsl.source import Source

AUTOREGRESSIVE = (
    POLICY.replace("action\n  }", "bins(action)\n  }")
    .replace("action by flow", "action by autoregressive")
    .replace("camera.future by flow", "camera.future by regression")
    .replace("  codec words", "  codec bins: bins\n  codec words")
)
ATTEND = """  attend {{
    text, camera, state sees text, camera, state
    action sees text, camera, state
    action sees action{where}
  }}
  generate foresight"""


def spec(where: str) -> str:
    return AUTOREGRESSIVE.replace("  generate foresight", ATTEND.format(where=where))


@pytest.mark.parametrize(
    "where",
    ["k <= q", "q >= k", "k < q", "q > k", "q - k >= 0", "0 <= q - k", "k == q, k <= q",
     "2 * k <= 2 * q"],
)  # fmt: skip
def test_rows_that_look_back(where):
    assert model_of(spec(f" where {where}")).generates["act"].objective == "autoregressive"


@pytest.mark.parametrize("where", ["", " where q <= k", " where k == q", " where q - k <= 8"])
def test_rows_that_see_what_is_predicted(where):
    found = diagnose(Source("policy.wm", spec(where)))
    assert [entry.code for entry in found] == ["WM709"]
    assert any(
        label.text == "sees what it must predict" for entry in found for label in entry.labels
    )


def test_a_decoder_is_causal_by_itself_and_a_dit_is_not():
    decoder = AUTOREGRESSIVE.replace("trunk doer: dit", "trunk doer: decoder")
    assert model_of(decoder).generates["act"].predict == "tokens"
    found = diagnose(Source("policy.wm", AUTOREGRESSIVE))
    assert [entry.code for entry in found] == ["WM709"]
