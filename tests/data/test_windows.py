"""Windows around anchors against a slow, obvious reference; sampling that resumes."""

import numpy as np
import pytest
import torch

from tests.data.conftest import CAMERA, LENGTHS, SIZE, STRIDE, TASKS, episode, features
from wmdsl.data import frames, keys
from wmdsl.data.errors import DataError
from wmdsl.data.lerobot import Feature
from wmdsl.data.loader import Loader, Source
from wmdsl.data.sampler import Sampler
from wmdsl.data.text import encode_text
from wmdsl.data.views import Tile
from wmdsl.data.windows import Window, WindowedDataset
from wmdsl.data.writer import DatasetWriter

ACTION = Window("action", keys.ACTION, tuple(range(6)))
NOW = Window("top.now", CAMERA, (0,))
FUTURE = Window("top.future", CAMERA, (4, 8))
TEXT = Window("text", keys.TASK, shape=(12,))


def expected_row(key, number, row):
    """Row of an episode with edges held, and whether it exists."""
    vectors, images = episode(number)
    held = min(max(row, 0), LENGTHS[number] - 1)
    value = vectors[key][held] if key in vectors else images[key][held // STRIDE]
    return value, held == row


def places():
    """(episode, row) of every anchor at which the camera is fresh."""
    return [(n, row) for n, length in enumerate(LENGTHS) for row in range(0, length, STRIDE)]


@pytest.mark.parametrize("window", [ACTION, NOW, FUTURE, Window("past", keys.STATE, (-8, -1))])
def test_windows_equal_the_rows_of_the_episode(shared_dataset, window):
    dataset = WindowedDataset(shared_dataset, [window, NOW])
    batch = dataset.batch(range(len(dataset)))
    assert len(dataset) == len(places())
    for sample, (number, anchor) in enumerate(places()):
        for index, offset in enumerate(window.offsets):
            value, exists = expected_row(window.key, number, anchor + offset)
            found = batch[window.stream][sample, index]
            if value.dtype == np.uint8:
                value = value.transpose(2, 0, 1).astype(np.float32) / 255
            assert np.allclose(found.numpy(), value, atol=1e-7)
            assert batch[f"{window.stream}.valid"][sample, index] == exists


def test_before_the_first_action_nothing_was_done(shared_dataset):
    """To repeat the first row there would tell an action that is still to come."""
    past = Window("past", keys.ACTION, (-8, -1), acted=True)
    dataset = WindowedDataset(shared_dataset, [past, NOW])
    batch = dataset.batch(range(len(dataset)))
    for sample, (number, anchor) in enumerate(places()):
        for index, offset in enumerate(past.offsets):
            value, exists = expected_row(keys.ACTION, number, anchor + offset)
            assert batch["past.valid"][sample, index] == exists
            wanted = value if exists else np.zeros_like(value)
            assert np.array_equal(batch["past"][sample, index].numpy(), wanted)


def test_without_a_camera_every_row_is_an_anchor(shared_dataset):
    assert len(WindowedDataset(shared_dataset, [ACTION])) == sum(LENGTHS)


def test_given_anchors(shared_dataset):
    dataset = WindowedDataset(shared_dataset, [ACTION], anchors=np.array([5, 2]))
    first = dataset.batch([0])["action"][0, 0].numpy()
    assert np.array_equal(first, episode(0)[0][keys.ACTION][5])


def test_instructions_are_bytes_plus_one(shared_dataset):
    batch = WindowedDataset(shared_dataset, [TEXT, NOW]).batch([0, 3])
    for sample, task in enumerate(TASKS[:2]):
        text = bytes(batch["text"][sample][batch["text.valid"][sample]].to(torch.uint8) - 1)
        assert text.decode() == task
    assert batch["text"].dtype == torch.int64


def test_a_long_instruction_is_refused_not_cut():
    with pytest.raises(DataError) as caught:
        encode_text("öffne", 5)
    assert caught.value.code == "WM858"
    assert "6 bytes" in caught.value.what


def test_one_shift_for_all_frames_of_a_camera(shared_dataset):
    dataset = WindowedDataset(shared_dataset, [NOW, Window("same", CAMERA, (0, 0))])
    indices = list(range(len(dataset))) * 3
    plain = dataset.batch(indices)["top.now"]
    moved = dataset.batch(indices, 3, torch.Generator().manual_seed(0))
    assert torch.equal(moved["top.now"][:, 0], moved["same"][:, 0])
    assert torch.equal(moved["same"][:, 0], moved["same"][:, 1])
    rows, columns = torch.arange(SIZE[0]), torch.arange(SIZE[1])
    seen = set()
    for before, after in zip(plain[:, 0], moved["top.now"][:, 0], strict=True):
        matches = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if torch.equal(
                before[:, (rows - down).clamp(0, SIZE[0] - 1)][
                    :, :, (columns - right).clamp(0, SIZE[1] - 1)
                ],
                after,
            )
        ]
        assert len(matches) == 1
        seen |= set(matches)
    assert len(seen) > 10


def test_unknown_keys_and_wrong_shapes(shared_dataset):
    wrong = {
        "WM854": Window("a", "actions", (0,)),
        "WM857": Window("a", keys.ACTION, (0,), shape=(7,)),
        "WM862": Window("a", keys.ACTION),
    }
    for code, window in wrong.items():
        with pytest.raises(DataError) as caught:
            WindowedDataset(shared_dataset, [window])
        assert caught.value.code == code


def test_a_stream_the_dataset_lacks_is_zero_and_invalid(shared_dataset):
    absent = Window("depth", "observation.depth", (0, 4), shape=(5,), optional=True)
    batch = WindowedDataset(shared_dataset, [absent, NOW]).batch([0, 1])
    assert torch.equal(batch["depth"], torch.zeros(2, 2, 5))
    assert not batch["depth.valid"].any()


def test_decoded_frames_are_kept_on_disk_when_large(dataset, monkeypatch):
    plain = WindowedDataset(dataset, [NOW]).batch(range(10))["top.now"]
    monkeypatch.setattr(frames, "CACHE_FROM_BYTES", 1)
    first = WindowedDataset(dataset, [NOW]).batch(range(10))["top.now"]
    monkeypatch.setattr(frames.Dataset, "frames", None)
    second = WindowedDataset(dataset, [NOW]).batch(range(10))["top.now"]
    assert torch.equal(plain, first)
    assert torch.equal(first, second)
    assert [path.suffix for path in (dataset / frames.CACHE_FOLDER).iterdir()] == [".npy"]


def test_no_space_for_decoded_frames(dataset, monkeypatch):
    monkeypatch.setattr(frames, "CACHE_FROM_BYTES", 1)
    usage = frames.shutil.disk_usage(dataset)._replace(free=10)
    monkeypatch.setattr(frames.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError) as caught:
        WindowedDataset(dataset, [NOW])
    assert caught.value.code == "WM859"


def action_free(root):
    """Video with instructions and no action."""
    camera = [feature for feature in features() if feature.key != keys.ACTION]
    with DatasetWriter(root, 40, camera, "synthetic") as writer:
        vectors, images = episode(1)
        writer.add_episode({keys.STATE: vectors[keys.STATE]}, images, "watch")
        writer.finish({})
    return root


def test_a_mixture_masks_what_a_source_lacks(shared_dataset, tmp_path):
    windows = (ACTION, NOW, TEXT)
    sources = [
        Source(shared_dataset, windows, weight=3.0),
        Source(action_free(tmp_path / "film"), windows, weight=1.0),
    ]
    loader = Loader(sources, 8, seed=3)
    batches = [loader.next_batch(torch.Generator()) for _ in range(50)]
    films = [(batch["text"][:, 0] == ord("w") + 1) for batch in batches]
    for batch, film in zip(batches, films, strict=True):
        assert not batch["action.valid"][film].any()
        assert torch.equal(batch["action"][film], torch.zeros_like(batch["action"][film]))
        assert batch["action.valid"][~film][:, 0].all()
        assert batch["top.now.valid"].all()
    share = torch.cat(films).float().mean()
    assert 0.15 < share < 0.35
    assert set(loader.statistics()) == {"action"}


def test_one_source_without_the_stream_is_an_error(tmp_path):
    with pytest.raises(DataError) as caught:
        Loader([Source(action_free(tmp_path / "film"), (ACTION, NOW))], 2)
    assert caught.value.code == "WM854"


def test_a_sampler_visits_everything_once_an_epoch():
    sampler = Sampler([10], 4, 0, [1.0])
    drawn = np.concatenate([next(sampler)[0] for _ in range(10)])
    for epoch in drawn.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(drawn[:10], drawn[10:20])


@pytest.mark.parametrize("drawn", [0, 1, 7, 13])
def test_a_resumed_loader_draws_the_same_batches(shared_dataset, drawn):
    def loader():
        source = Source(shared_dataset, (ACTION, NOW))
        return Loader([source, source], 5, seed=11, shift_pixels=2)

    whole, generator = loader(), torch.Generator().manual_seed(1)
    for _ in range(drawn):
        whole.next_batch(generator)
    state, random_state = whole.state_dict(), generator.get_state()
    resumed, again = loader(), torch.Generator()
    resumed.load_state_dict(state)
    again.set_state(random_state)
    for _ in range(6):
        left, right = whole.next_batch(generator), resumed.next_batch(again)
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_the_state_of_another_mixture_is_refused():
    state = Sampler([3], 1, 0, [1.0]).state_dict()
    with pytest.raises(ValueError, match="1 sources"):
        Sampler([3, 3], 1, 0, [1.0, 1.0]).load_state_dict(state)


def test_a_canvas_holds_each_camera_at_its_place(shared_dataset):
    tiles = (Tile(CAMERA, (0, 0, *SIZE)), Tile(CAMERA, (SIZE[0], 0, 8, 12)))
    canvas = Window("canvas", "", (0, 4), (3, SIZE[0] + 8, SIZE[1]), views=tiles)
    small = Window("small", CAMERA, (0, 4), (3, 8, 12))
    whole = Window("whole", CAMERA, (0, 4))
    batch = WindowedDataset(shared_dataset, [canvas, small, whole]).batch([0, 3])
    assert torch.equal(batch["canvas"][..., : SIZE[0], :], batch["whole"])
    assert torch.equal(batch["canvas"][..., SIZE[0] :, :12], batch["small"])
    assert not batch["canvas"][..., SIZE[0] :, 12:].any()
    assert torch.equal(batch["canvas.valid"], batch["whole.valid"])


def test_views_that_stand_apart_keep_their_axis(shared_dataset):
    tiles = (Tile(CAMERA, (0, 0, *SIZE)),) * 2
    pair = Window("pair", "", (0,), (3, *SIZE), views=tiles, apart=True)
    batch = WindowedDataset(shared_dataset, [pair, NOW]).batch([1])
    assert batch["pair"].shape == (1, 1, 2, 3, *SIZE)
    assert torch.equal(batch["pair"][:, :, 1], batch["top.now"])


def test_a_still_has_no_axis_of_time(shared_dataset):
    still = Window("still", CAMERA, (0,), still=True)
    batch = WindowedDataset(shared_dataset, [still, Window("now", CAMERA, (0,))]).batch([0, 3])
    assert torch.equal(batch["still"], batch["now"][:, 0])
    assert batch["still.valid"].shape == (2, 1)


def test_numbers_of_a_row_may_be_padding(tmp_path):
    """A column beside the numbers says which of them a body has; without one it has all."""
    written = [Feature(keys.ACTION, "float32", (2,), ("x", "y"), 40),
               Feature(f"{keys.ACTION}.numbers", "float32", (2,), ("x", "y"), 40)]  # fmt: skip
    rows = {keys.ACTION: np.ones((8, 2), np.float32)}
    told = {**rows, f"{keys.ACTION}.numbers": np.tile(np.float32([1, 0]), (8, 1))}
    found = []
    for name, count, vectors in (("told", 2, told), ("untold", 1, rows)):
        with DatasetWriter(tmp_path / name, 40, written[:count], "synthetic") as writer:
            writer.add_episode(vectors, {}, "push")
            writer.finish({"made": "for a test"})
        window = Window("action", keys.ACTION, (0, 6), shape=(2,), padded=True)
        found.append(WindowedDataset(tmp_path / name, [window]).batch([0, 4]))
    assert found[0]["action.numbers"].tolist() == 2 * [[[True, False], [True, False]]]
    assert found[0]["action.valid"].tolist() == [[True, True], [True, False]]
    assert found[1]["action.numbers"].all()
