"""Compare our reader with lerobot's own, row by row. Run by hand, in an environment of its own.

    python -m venv /tmp/lerobot
    /tmp/lerobot/bin/pip install --no-deps lerobot==0.4.4 torchcodec==0.12
    /tmp/lerobot/bin/pip install torch==2.13.0 av pyarrow pandas draccus jsonlines \
        accelerate deepdiff pillow "datasets>=4.0,<4.2" "huggingface_hub>=0.34.2,<0.36"
    PYTHONPATH=. /tmp/lerobot/bin/python tests/data/compare_with_lerobot.py DATASET

torchcodec needs FFmpeg's shared libraries (Debian: `apt-get install ffmpeg`). torchvision is
replaced by a stand-in: of it lerobot uses only the conversion of stored images to tensors.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmdsl.data import keys
from wmdsl.data.lerobot import INDEX_FEATURES
from wmdsl.data.reader import Dataset

STAND_INS = (
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.v2",
    "torchvision.transforms.v2.functional",
)


class StandIn(types.ModuleType):
    """A module of which every attribute exists and does nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *_, **__: None})


class ToTensor:
    """A picture as float32 [C, H, W] in 0..1."""

    def __call__(self, picture):
        import torch

        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def open_theirs(root: str, deltas: dict[str, list[float]] | None = None):
    """lerobot's dataset over the same folder."""
    install_stand_ins()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/compared", root=root, delta_timestamps=deltas)


def install_stand_ins() -> None:
    """Put the stand-ins where lerobot imports torchvision from."""
    for name in STAND_INS:
        sys.modules[name] = StandIn(name)
    for name in STAND_INS[1:]:
        parent, _, child = name.rpartition(".")
        setattr(sys.modules[parent], child, sys.modules[name])
    sys.modules["torchvision.transforms"].ToTensor = ToTensor


def compare_metadata(ours: Dataset, theirs) -> None:
    """Rates, features, totals, tasks, the table of episodes and the statistics."""
    assert theirs.fps == ours.info.fps
    assert theirs.num_episodes == len(ours.episodes)
    assert theirs.num_frames == ours.info.total_frames
    assert set(theirs.features) == set(ours.info.features)
    for key, feature in ours.info.features.items():
        assert tuple(theirs.features[key]["shape"]) == feature.shape, key
    assert list(theirs.meta.tasks.index) == list(ours.tasks)
    assert list(theirs.meta.episodes["dataset_from_index"]) == ours.episodes.start.tolist()
    assert list(theirs.meta.episodes["dataset_to_index"]) == ours.episodes.stop.tolist()
    for key, found in ours.info.stats().items():
        for name, values in found.items():
            assert np.array_equal(theirs.meta.stats[key][name], np.array(values)), (key, name)


def compare_statistics(ours: Dataset) -> Iterator[str]:
    """Our figures against lerobot's own estimator, whose quantiles come from 5000 bins."""
    from lerobot.datasets.compute_stats import compute_episode_stats

    for key in (keys.STATE, keys.ACTION):
        values = ours.columns([key])[key]
        features = {key: {"dtype": "float32", "shape": values.shape[1:]}}
        estimated = compute_episode_stats({key: values}, features)[key]
        stored = ours.info.stats()[key]
        scale = values.max() - values.min()
        worst = max(np.abs(estimated[n] - np.array(stored[n])).max() / scale for n in stored)
        yield f"{key}: largest difference of a statistic {worst:.2e} of the range"
        assert worst < 2e-2


def compare_rows(ours: Dataset, theirs) -> str:
    """Every row and every frame; frames are compared as bytes."""
    vectors = [k for k, f in ours.info.features.items() if not f.is_camera]
    columns = ours.columns(vectors)
    cameras = [k for k, f in ours.info.features.items() if f.is_camera]
    frames = {key: np.stack(list(ours.frames(key))) for key in cameras}
    differing, largest = 0, 0
    for row in range(ours.info.total_frames):
        item = theirs[row]
        for key in vectors:
            assert np.array_equal(item[key].numpy().ravel(), columns[key][row].ravel()), key
        assert item["task"] == ours.tasks[columns["task_index"][row]]
        for key in cameras:
            held = columns["frame_index"][row] // ours.info.stride(key)
            number = ours.frame_starts(key)[columns["episode_index"][row]] + held
            image = np.round(item[key].numpy() * 255).astype(np.int64).transpose(1, 2, 0)
            difference = np.abs(image - frames[key][number])
            differing += int((difference > 0).sum())
            largest = max(largest, int(difference.max()))
    count = ours.info.total_frames * len(cameras)
    return f"{count} frames: {differing} differing values, largest difference {largest}"


def compare_windows(root: str, ours: Dataset) -> str:
    """Windows of future actions: values and the mask at the ends of episodes."""
    from wmdsl.data.windows import Window, WindowedDataset

    offsets = tuple(range(16))
    theirs = open_theirs(root, {keys.ACTION: [offset / ours.info.fps for offset in offsets]})
    windowed = WindowedDataset(root, [Window("action", keys.ACTION, offsets)])
    rows = range(0, ours.info.total_frames, 7)
    batch = windowed.batch(list(rows))
    for sample, row in enumerate(rows):
        item = theirs[row]
        assert np.array_equal(item[keys.ACTION].numpy(), batch["action"][sample].numpy())
        padded = item[f"{keys.ACTION}_is_pad"].numpy()
        assert np.array_equal(~padded, batch["action.valid"][sample].numpy())
    return f"{len(rows)} windows of 16 actions and their masks"


def write_theirs(root: Path, video: bool) -> None:
    """A dataset written by lerobot itself: two episodes, one camera, AV1 video or PNG files."""
    install_stand_ins()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    axes = ["height", "width", "channels"]
    features = {
        keys.ACTION: {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
        keys.STATE: {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        keys.image_key("eye"): {
            "dtype": "video" if video else "image", "shape": (64, 96, 3), "names": axes
        },
    }  # fmt: skip
    target = LeRobotDataset.create("local/theirs", 30, features, root=root, use_videos=video)
    rng = np.random.default_rng(0)
    for length, task in ((20, "left"), (35, "right")):
        for row in range(length):
            target.add_frame(
                {
                    keys.ACTION: rng.normal(size=2).astype(np.float32),
                    keys.STATE: rng.normal(size=3).astype(np.float32),
                    keys.image_key("eye"): np.full((64, 96, 3), (row * 7) % 256, np.uint8),
                    "task": task,
                }
            )
        target.save_episode()
    target.finalize()


def main() -> None:
    """Compare one dataset and say what was equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    root = parser.parse_args().dataset
    ours, theirs = Dataset(root), open_theirs(root)
    compare_metadata(ours, theirs)
    print(f"metadata equal; index columns {', '.join(INDEX_FEATURES)} among the rows")
    print(compare_rows(ours, theirs))
    print(compare_windows(root, ours))
    print("\n".join(compare_statistics(ours)))
    for video in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "theirs"
            write_theirs(written, video)
            said = compare_rows(Dataset(written), open_theirs(written))
            print(f"written by lerobot, {'video' if video else 'images'}: {said}")


if __name__ == "__main__":
    main()
