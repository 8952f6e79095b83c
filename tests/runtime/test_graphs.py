"""A query answered from recordings: when they are made, what they read, and where none can be."""

import copy

import pytest
import torch

import wmdsl
from tests.runtime.test_session import module_of
from wmdsl.runtime import errors
from wmdsl.runtime.device import CPU, named, noise_of
from wmdsl.runtime.graphs import DeviceOnly, Places, Replayed, captured
from wmdsl.runtime.sample import random_batch
from wmdsl.runtime.session import Session, SessionSettings


def again(run, noise):
    """A recording that does everything again: what a graph does, without one."""
    return run


def counted(recordings):
    def record(run, noise):
        recordings.append(run)
        return run

    return record


@pytest.fixture
def module():
    return module_of().eval()


def test_a_recording_answers_as_the_query_does(module):
    """Number for number, with the noise that the query would draw, at several shapes."""
    replayed = Replayed(module, "policy", again)
    ours, theirs = noise_of(module, 3), noise_of(module, 3)
    for size in (1, 2, 1, 3, 2):
        batch = random_batch(module.plan.model, size, "policy", seed=size)
        wanted, found = module.query("policy", batch, theirs), replayed(batch, ours)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert torch.equal(ours.get_state(), theirs.get_state())
    assert len(replayed.recordings) == 3


def test_noise_is_fresh_and_that_of_torch_where_no_generator_is_given(module):
    replayed, batch = Replayed(module, "policy", again), random_batch(module.plan.model, 1)
    torch.manual_seed(4)
    wanted = [module.query("policy", batch)["action"] for _ in range(2)]
    torch.manual_seed(4)
    found = [replayed(batch)["action"] for _ in range(2)]
    assert torch.equal(torch.stack(wanted), torch.stack(found))
    assert not torch.equal(*found)


def test_answers_and_batches_belong_to_the_caller(module):
    replayed = Replayed(module, "policy", again)
    batches = [random_batch(module.plan.model, 2, "policy", seed=seed) for seed in range(2)]
    with torch.inference_mode():
        first = replayed(batches[0], noise_of(module, 0))["action"]
    kept = first.clone()
    buffers = next(iter(replayed.recordings.values())).inputs
    assert not torch.equal(replayed(batches[1], noise_of(module, 0))["action"], kept)
    assert torch.equal(first, kept)
    for name, buffer in buffers.items():
        assert torch.equal(buffer, batches[1][name])
        assert buffer.data_ptr() != batches[1][name].data_ptr()


def test_a_dtype_is_a_recording_of_its_own(module):
    made = []
    replayed, batch = Replayed(module, "policy", counted(made)), random_batch(module.plan.model, 1)
    wide = {n: x.double() if x.is_floating_point() else x for n, x in batch.items()}
    module.float()
    replayed(batch)
    assert len(made) == 1
    module.double()
    assert replayed(wide)["action"].dtype == torch.float64 and len(made) == 2


def halved(module):
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(0.5)


def assigned(module):
    module.load_state_dict({n: 0.5 * x for n, x in module.state_dict().items()}, assign=True)


def moved_elsewhere(module):
    module.double().float()


def exchanged(module):
    name, part = next(iter(module.named_children()))
    setattr(module, name, copy.deepcopy(part))


CHANGES = {
    "in place": (halved, 1),
    "other tensors": (assigned, 2),
    "moved": (moved_elsewhere, 2),
    "another part": (exchanged, 2),
    "training": (lambda module: module.train(), 2),
}


@pytest.mark.parametrize(("change", "recordings"), CHANGES.values(), ids=CHANGES)
def test_what_becomes_of_a_recording_when_the_module_changes(module, change, recordings):
    made = []
    replayed, batch = Replayed(module, "policy", counted(made)), random_batch(module.plan.model, 1)
    for _ in range(2):
        replayed(batch)
    assert len(made) == 1
    change(module)
    for _ in range(2):
        found = replayed(batch, noise_of(module, 0))["action"]
    assert torch.equal(found, module.query("policy", batch, noise_of(module, 0))["action"])
    assert len(made) == recordings and len(replayed.recordings) == 1


def test_under_autocast_there_are_recordings_of_their_own(module):
    """A recording keeps what it was made under, as a graph does."""
    found = []

    def fixed(run, noise):
        enabled = torch.is_autocast_enabled("cpu")
        found.append((enabled, torch.is_autocast_cache_enabled()))

        def replay():
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                return run()

        return replay

    replayed, batch = Replayed(module, "policy", fixed), random_batch(module.plan.model, 1)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = replayed(batch, noise_of(module, 0))["action"]
    wide = replayed(batch, noise_of(module, 0))["action"]
    wanted = module.query("policy", batch, noise_of(module, 0))["action"]
    assert torch.equal(wide, wanted) and not torch.equal(narrow, wanted)
    assert found == [(True, False), (False, False)]


def test_a_weight_that_is_gone_is_noticed(module):
    owner = next(part for part in module.modules() if part._parameters)
    places = Places(module)
    assert places.stand()
    del owner._parameters[next(iter(owner._parameters))]
    assert not places.stand()


def test_a_model_on_a_cpu_is_not_captured(module):
    with pytest.raises(errors.RunError, match="WM888.*the model is on the cpu") as caught:
        captured(module, "policy")
    assert "--device cuda" in caught.value.help
    with pytest.raises(errors.RunError, match="WM888"):
        Session(module, settings=SessionSettings(graph=True))
    with pytest.raises(errors.RunError, match="WM888"):
        wmdsl.session(module, graph=True)


def test_a_query_that_needs_the_host_is_not_captured(module):
    """What it does there is named, with the line of the spec."""

    def on_gpu_alone(run, noise):
        with DeviceOnly():
            run()

    with pytest.raises(errors.RunError, match="WM888.*cannot hold aten.*model.wm"):
        Replayed(module, "policy", on_gpu_alone)(random_batch(module.plan.model, 1, "policy"))


def test_devices_by_name():
    assert named("cpu") == CPU
    for name in ("cuda", "cuda:0", "tpu", "cpu:1"):
        if name.startswith("cuda") and torch.cuda.is_available():
            continue
        with pytest.raises(errors.RunError, match=f"WM887.*{name}"):
            named(name)
