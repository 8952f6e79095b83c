"""What a query seeks through auto-encoders comes back as pixels, as the reference decodes it."""

import torch

from tests.cpu.conftest import SPECS, random_batch
from tests.cpu.reference.compare import weights_of
from tests.cpu.reference.indices import indices_answers
from tests.cpu.reference.pretrained import pretrained_passive


def test_pixels_of_a_query(compiled):
    module = compiled(SPECS / "pretrained.wm")
    batch = random_batch(module, 2)
    found = module.query("passive", batch, torch.Generator().manual_seed(3), steps=2)
    with torch.no_grad():
        wanted = pretrained_passive(weights_of(module), batch, torch.Generator().manual_seed(3), 2)
    assert found["scene"].shape == (2, 4, 3, 16, 16)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-10)


def test_answers_out_of_indices_and_latent_frames(compiled):
    module = compiled(SPECS / "indices.wm")
    batch, generator = random_batch(module, 2), torch.Generator().manual_seed(3)
    queries = ("policy", "next", "fill")
    found = [module.query(name, batch, generator, steps=2) for name in queries]
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        wanted = indices_answers(weights_of(module), batch, generator, 2)
    for name, value in {**found[0], **found[1], **found[2]}.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-8, atol=1e-10)


def test_no_latent_sees_a_later_frame(compiled):
    module = compiled(SPECS / "pretrained.wm")
    frames = random_batch(module, 2)["scene"]
    whole = module.vae.encode(frames)
    torch.testing.assert_close(module.vae.encode(frames[:, :3]), whole[:, :2])
    changed = frames.clone()
    changed[:, 5:] += 1
    assert torch.equal(module.vae.encode(changed)[:, :3], whole[:, :3])
