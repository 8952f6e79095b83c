"""The typed model: sizes, offsets and names that follow from a spec."""

from fractions import Fraction

import pytest

from tests.front.check.spec import EXAMPLES, POLICY, example, model_of
from wmdsl.check.model import CallValue

BENCHMARKS = EXAMPLES.parent / "benchmarks"

TABLES = ("streams", "codecs", "trunks", "joins", "crosses", "conditions", "aligns", "hands",
          "generates", "queries", "layouts")  # fmt: skip
FILES = sorted(
    str(path.relative_to(EXAMPLES))
    for folder in ("paradigms", "hybrids", "atlas")
    for path in (EXAMPLES / folder).glob("*.wm")
)


@pytest.mark.parametrize("path", FILES)
def test_examples_are_sound(path):
    model = example(path)
    assert model.streams
    assert model.sha256 and model.canonical.startswith("edition 2026\n")


@pytest.mark.parametrize("path", [path for path in FILES if path.startswith("paradigms")])
def test_paradigms_can_run(path):
    assert example(path).unrunnable == ()


def test_offsets_count_samples_from_now():
    streams = model_of(POLICY).streams
    offsets = {part.reference: part.offsets for s in streams.values() for part in s.segments}
    assert offsets["camera.now"] == (-1, 0)
    assert offsets["camera.future"] == (1, 2, 3, 4)
    assert offsets["state.past"] == (-3, -2, -1)
    assert offsets["state.now"] == (0,)
    assert offsets["action.future"] == tuple(range(16))
    assert offsets["text"] == ()


def test_past_ends_where_now_begins():
    text = POLICY.replace("past 3 steps; now 1 step", "past 3 steps; now 2 steps")
    segments = model_of(text).streams["state"].segments
    assert [part.offsets for part in segments] == [(-4, -3, -2), (-1, 0)]


def test_a_stride_and_an_offset_move_samples():
    text = POLICY.replace("future 4 frames", "future 4 frames; every 3 frames; offset 3 frames")
    stream = model_of(text.replace("future 16 steps", "future 48 steps")).streams["camera"]
    assert stream.segment("now").offsets == (-3, 0)
    assert stream.segment("future").offsets == (3, 6, 9, 12)


def test_seconds_are_exact():
    text = POLICY.replace("future 4 frames", "future 0.2 s").replace("16 steps", "200 ms")
    streams = model_of(text).streams
    assert len(streams["camera"].segment("future").offsets) == 4
    assert len(streams["action"].segment("future").offsets) == 16


def test_a_window_holds_all_segments_in_order():
    camera = model_of(POLICY).streams["camera"]
    assert (camera.window, camera.start("now"), camera.start("future")) == (6, 0, 2)
    assert camera.start("future[1..2]") == 3


def test_zero_length_segments_vanish():
    text = POLICY.replace("past 3 steps; ", "past 0 steps; ")
    assert [part.name for part in model_of(text).streams["state"].segments] == ["now"]


def test_geometry_of_token_groups():
    groups = {group.name: group for group in model_of(POLICY).trunks["doer"].groups}
    facts = {
        name: (group.codec, group.frames, group.per_frame, group.grid, group.features)
        for name, group in groups.items()
    }
    assert facts == {
        "text": ("words", 1, 2, None, 48),
        "camera.now": ("eyes", 2, 48, (8, 6), 24),
        "state.past": ("linear", 3, 1, None, 5),
        "state.now": ("linear", 1, 1, None, 5),
        "camera.future": ("patches", 4, 24, (4, 6), 3 * 16 * 8),
        "action.future": ("linear", 16, 1, None, 7),
    }


def test_key_points_and_bins():
    text = POLICY.replace("channels 8, 16, 24", "channels 8, 16; readout keypoints; tokens 3")
    text = text.replace("codec words", "codec bins: bins { bins 32 }\n  codec words")
    text = text.replace("action\n  }", "bins(action)\n  }").replace(
        "action by flow", "action by masked"
    )
    groups = {group.name: group for group in model_of(text).trunks["doer"].groups}
    assert (groups["camera.now"].per_frame, groups["camera.now"].features) == (3, 16)
    assert (groups["action.future"].count, groups["action.future"].features) == (16 * 7, 1)


@pytest.mark.parametrize(
    ("kind", "width", "ffn"), [("dit", 64, 256), ("vit", 64, 256), ("decoder", 192, 512)]
)
def test_the_default_feed_forward_width(kind, width, ffn):
    text = POLICY.replace("trunk doer: dit", f"trunk doer: {kind}").replace(
        "by flow", "by regression"
    )
    assert model_of(text.replace("width 64", f"width {width}")).trunks["doer"].ffn == ffn


def test_heads_without_a_head_dim_share_the_width():
    trunk = model_of(POLICY.replace("heads 2x32", "heads 4 kv 2")).trunks["doer"]
    assert (trunk.heads, trunk.head_dim, trunk.kv_heads) == (4, 16, 2)


def test_one_number_of_steps_counts_for_every_sampled_stream():
    queries = model_of(POLICY.replace("state\n}", "state { steps 5 }\n}")).queries
    assert queries["policy"].steps == {"action": 5, "camera": 5}


def test_laws_are_calls_with_their_defaults():
    text = POLICY.replace("action by flow", "action by flow { time beta(1.5); shift 3 }")
    generate = model_of(text).generates["act"]
    assert generate.law == CallValue("beta", (Fraction(3, 2), Fraction(1)))
    assert generate.shift == 3
    assert model_of(POLICY).generates["act"].law == CallValue("uniform", (0, 1))


def test_a_mixture_keeps_its_weights():
    text = POLICY.replace(
        "action by flow", "action by flow { time mix(uniform(0, 1) 0.25, cosine 0.75) }"
    )
    law = model_of(text).generates["act"].law
    assert law.name == "mix"
    assert law.arguments[1::2] == (Fraction(1, 4), Fraction(3, 4))
    assert [part.name for part in law.arguments[::2]] == ["uniform", "cosine"]


def test_a_decoder_reads_semantically_and_pixels_are_pixels():
    model = model_of(POLICY)
    assert model.streams["camera"].level == "pixel"
    assert model.codecs["eyes"].level == "latent"
    assert model.codecs["patches"].level is None


def test_fast_wam_has_the_published_tokens():
    model = example("atlas/fast_wam.wm")
    groups = {group.name: group for group in model.trunks["video_dit"].groups}
    assert (groups["camera.now"].count, groups["camera.future"].count) == (98, 196)
    assert model.trunks["action_dit"].groups[0].count == 32
    assert model.crosses["read"].sources[0].count == 128


def test_lingbot_va_has_the_published_tokens():
    groups = {group.name: group for group in example("atlas/lingbot_va.wm").trunks["dit"].groups}
    assert groups["camera.future"].count == 240
    assert groups["action.future"].count == 32
    assert groups["camera.now"].per_frame == 120


def test_cosmos_policy_has_the_published_tokens():
    trunk = example("atlas/cosmos_policy.wm").trunks["dit"]
    assert [group.count for group in trunk.groups] == [196] * 9


def test_the_predictor_of_vla_jepa_meets_its_target_token_by_token():
    align = example("atlas/vla_jepa.wm").aligns["forward"]
    assert align.source.count == align.target_count == 768
    assert align.target_width == 2048


def test_what_has_no_runtime_is_listed_with_its_code():
    codes = {entry.code for entry in example("atlas/visualpredicator.wm").unrunnable}
    assert codes == {"WM801", "WM808", "WM810"}


@pytest.mark.parametrize("path", FILES)
def test_the_canonical_text_is_the_same_model(path):
    model = example(path)
    again = model_of(model.canonical)
    assert again.canonical == model.canonical
    for table in TABLES:
        assert getattr(again, table) == getattr(model, table), table
    assert seen(again) == seen(model)


def seen(model):
    """Who sees whom, however the rows are cut."""
    return {
        (space, subject, other, rule.relations)
        for space, attend in model.attends.items()
        for rule in attend.rules
        for subject in rule.subjects
        for other in rule.objects or (None,)
    }


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.wm")), ids=lambda path: path.stem)
def test_specs_of_benchmarks_are_sound(path):
    assert model_of(path.read_text(encoding="utf-8"), str(path)).queries
