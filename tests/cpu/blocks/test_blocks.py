"""Blocks: shapes, bounds, and what the references of whole models do not reach."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wmdsl.blocks import (
    batch,
    bins,
    conv,
    diffusion,
    laws,
    losses,
    patches,
    resize,
    rotary,
    sampling,
    text,
)
from wmdsl.blocks.drawn import schedule_of

LIKE = torch.zeros(1, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda g: laws.uniform((20000,), 0.2, 0.6, LIKE, g), 0.4),
        (lambda g: laws.logit_normal((20000,), 0.0, 1.0, LIKE, g), 0.5),
        (lambda g: laws.beta((20000,), 1.5, 1.0, LIKE, g), 0.001 + 0.999 * 0.6),
        (lambda g: laws.cosine((20000,), LIKE, g), 2 / math.pi),
        (lambda g: laws.fixed((20000,), 0.3, LIKE), 0.3),
    ],
    ids=["uniform", "logit_normal", "beta", "cosine", "fixed"],
)
def test_laws(draw, mean):
    times = draw(generator())
    assert times.dtype == LIKE.dtype
    assert times.min() >= 0 and times.max() <= 1
    assert abs(times.mean() - mean) < 0.01
    assert torch.equal(times, draw(generator()))


def test_shift_keeps_the_ends():
    times = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(laws.shifted(times, 3.0), torch.tensor([0.0, 0.75, 1.0]))
    assert laws.shifted(0.5, 3.0) == 0.75


@pytest.mark.parametrize("stop", [0.0, 0.25])
def test_descending_times_meet(stop):
    pairs = list(sampling.descending(5, stop))
    assert pairs[0][0] == 1 and pairs[-1][1] == pytest.approx(stop)
    assert all(left[1] == right[0] for left, right in zip(pairs, pairs[1:], strict=False))


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_ends_of_the_path(kind):
    clean, noise = torch.randn(2, 5, 3, generator=generator(), dtype=torch.float64)
    time = torch.full((5, 1), 0.4, dtype=torch.float64)
    x = diffusion.noised(clean, noise, time)
    output = {"eps": noise, "x0": clean, "v": diffusion.velocity_of(clean, noise, time)}[kind]
    found = getattr(diffusion, f"ends_from_{kind}")(x, output, time)
    torch.testing.assert_close(found, (clean, noise))


def test_patches_there_and_back():
    frames = torch.randn(2, 3, 4, 8, 12, generator=generator())
    tokens = patches.patchify(frames, 4, 6)
    assert tokens.shape == (2, 3 * 2 * 2, 4 * 4 * 6)
    assert torch.equal(patches.unpatchify(tokens, (3, 4, 8, 12), 4, 6), frames)


def test_bins_there_and_back():
    numbers = torch.tensor([[[-9.0, -1.0], [0.99, 9.0]]])
    index = bins.to_bins(numbers, 4, -1.0, 1.0)
    assert index.tolist() == [[0, 0, 3, 3]]
    assert bins.from_bins(index, 2, 4, -1.0, 1.0).tolist() == [[[-0.75, -0.75], [0.75, 0.75]]]


def test_padding_is_never_read():
    encoder = text.BytesEncoder(6, 32, layers=1, heads=1, tokens=2)
    short = torch.tensor([[5, 7, 0, 0, 0, 0]])
    before = encoder(short)
    with torch.no_grad():
        encoder.table.weight[0] += 1
        encoder.places[2:] += 1
    torch.testing.assert_close(encoder(short), before)
    assert torch.isfinite(encoder(torch.zeros(1, 6, dtype=torch.long))).all()


def test_key_points_find_a_spot():
    codec = conv.ConvKeypoints(3, (8,), (2,), (4, 4), 5, 2)
    tokens = codec(torch.rand(2, 3, 3, 16, 16, generator=generator()))
    assert tokens.shape == (2, 3 * 2, 8)


def test_rotation_keeps_lengths_and_differences():
    x = torch.randn(1, 9, 2, 12, generator=generator(), dtype=torch.float64)
    places = torch.cat([rotary.line(1), rotary.cells(3, 2, 2, 2)])
    angles = rotary.angles_3d([places], 12).double()
    turned = rotary.rotated(x, angles)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    same = torch.ones(1, 9, 1, 12, dtype=torch.float64)
    turned = rotary.rotated(same, angles)[0, :, 0]
    # The cells (3, 0, 0) -> (3, 1, 1) and (4, 0, 0) -> (4, 1, 1) are equally far apart.
    torch.testing.assert_close(turned[1] @ turned[4], turned[5] @ turned[8])


def test_revealed_hides_the_least_likely():
    logits = torch.zeros(1, 4, 3)
    logits[0, :, 1] = torch.tensor([9.0, 1.0, 5.0, 7.0])
    index = torch.tensor([[3, 3, 3, 2]])
    shown = sampling.revealed(index, logits, 3, 0.4, generator())
    assert shown[0, 3] == 2
    assert (shown == 3).sum() == math.floor(4 * math.sin(math.pi / 2 * 0.4))
    assert not (sampling.revealed(index, logits, 3, 0.0, generator()) == 3).any()


def test_valid_mean_weighs_samples_alike():
    error = torch.tensor([[1.0, 3.0, 100.0, 100.0], [5.0, 5.0, 7.0, 7.0]])
    valid = torch.tensor([[True, False], [True, True]])
    assert losses.valid_mean(error, valid) == (2 + 5 + 7) / 3
    assert losses.valid_mean(error, torch.zeros(2, 2, dtype=torch.bool)) == 0


def test_guard_sees_collapse():
    alive = torch.randn(64, 4, 6, generator=generator())
    assert losses.vcreg(alive) < 0.3 < losses.vcreg(torch.zeros(64, 4, 6))


def test_batches_are_checked():
    held = {"x": torch.zeros(2, 3, 4), "x.valid": torch.ones(2, 2, dtype=torch.bool)}
    assert batch.samples(held, "x", 2, 3, (4,), "here").shape == (2, 2, 4)
    with pytest.raises(ValueError, match=r"\[2, 3, 4\], but here declares \[B, 4..5, 4\]"):
        batch.samples(held, "x", 4, 5, (4,), "here")
    with pytest.raises(ValueError, match="no 'y', which here declares"):
        batch.whole(held, "y", (4,), "here")
    with pytest.raises(ValueError, match=r"'x.valid'\] is \[2, 2\], but is to be \[2, 3\]"):
        batch.validity(held, "x", 2, 3)


def test_resized_weights():
    """Each axis is read at evenly spaced places; matrices keep the size of their outputs."""
    source, target = nn.Linear(8, 5), nn.Linear(3, 7)
    resize.resize(target, source)
    weight = source.weight.detach().numpy()
    rows, columns = numpy.linspace(0, 4, 7), numpy.linspace(0, 7, 3)
    tall = numpy.stack([numpy.interp(rows, range(5), column) for column in weight.T], 1)
    wide = numpy.stack([numpy.interp(columns, range(8), row) for row in tall])
    expected = torch.tensor(wide * (8 / 3) ** 0.5, dtype=torch.float32)
    torch.testing.assert_close(target.weight.detach(), expected)
    bias = torch.tensor(numpy.interp(rows, range(5), source.bias.detach().numpy()))
    torch.testing.assert_close(target.bias.detach(), bias.float())


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.data())
@settings(max_examples=100, deadline=None)
def test_a_mask_over_runs_is_that_mask_over_their_tokens(lengths, data):
    count = len(lengths)
    row = st.lists(st.booleans(), min_size=count, max_size=count)
    seen = torch.tensor(data.draw(st.lists(row, min_size=count, max_size=count)))
    tokens = torch.arange(count).repeat_interleave(torch.tensor(lengths))
    schedule = schedule_of(seen, [(1, length) for length in lengths])
    assert torch.equal(schedule.to_dense_mask(), seen[tokens][:, tokens])
    assert schedule == schedule_of(seen[tokens][:, tokens], [(len(tokens), 1)])
