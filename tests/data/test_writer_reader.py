"""What the writer writes the reader reads, exactly; and every fault is said clearly."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import (
    CAMERA,
    FPS,
    LENGTHS,
    SIZE,
    STRIDE,
    TASKS,
    episode,
    features,
    write_dataset,
)
from wmdsl.data import keys, lerobot, writer
from wmdsl.data.errors import DataError
from wmdsl.data.lerobot import DatasetInfo
from wmdsl.data.reader import Dataset
from wmdsl.data.statistics import PixelHistogram, vector_statistics


def stacked(key):
    return np.concatenate([{**a, **b}[key] for a, b in map(episode, range(len(LENGTHS)))])


def edit_info(root, change):
    path = root / lerobot.INFO_PATH
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def rewrite_rows(root, change):
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def replaced(table, name, values):
    field = table.schema.field(name)
    return table.set_column(table.column_names.index(name), name, pa.array(values, field.type))


def raised(code, action):
    with pytest.raises(DataError) as caught:
        action()
    assert caught.value.code == code
    assert caught.value.help
    return caught.value


def test_round_trip_of_rows(shared_dataset):
    opened = Dataset(shared_dataset)
    rows = opened.columns([keys.STATE, keys.ACTION, "timestamp", "episode_index", "index"])
    assert np.array_equal(rows[keys.STATE], stacked(keys.STATE))
    assert np.array_equal(rows[keys.ACTION], stacked(keys.ACTION))
    assert rows["index"].tolist() == list(range(sum(LENGTHS)))
    assert rows["episode_index"].tolist() == np.repeat(range(3), LENGTHS).tolist()
    assert np.allclose(rows["timestamp"][: LENGTHS[0]], np.arange(LENGTHS[0]) / FPS)
    assert [opened.tasks[i] for i in opened.row_tasks()] == np.repeat(TASKS, LENGTHS).tolist()


def test_frames_come_back_without_loss(shared_dataset):
    opened = Dataset(shared_dataset)
    assert np.array_equal(np.stack(list(opened.frames(CAMERA))), stacked(CAMERA))
    assert opened.frame_starts(CAMERA).tolist() == [0, 3, 7, 10]


def test_metadata_of_a_dataset(shared_dataset):
    info = DatasetInfo.read(shared_dataset)
    assert (info.fps, info.cameras, info.total_episodes) == (FPS, ("top",), 3)
    assert info.camera("top").image_shape == (3, *SIZE)
    assert info.stride(CAMERA) == STRIDE
    assert info.feature(keys.ACTION).names == ("dx", "dy")
    assert info.stats()[keys.ACTION]["count"] == [sum(LENGTHS)]


def test_reading_metadata_loads_no_heavy_package(shared_dataset):
    code = (
        "import sys; from wmdsl.data.lerobot import DatasetInfo;"
        f"DatasetInfo.read({str(shared_dataset)!r});"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'av') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_reading_recording_and_evaluating_load_no_torch():
    code = (
        "import sys; import wmdsl.data.reader, wmdsl.data.writer, wmdsl.environments.demonstrate;"
        "import wmdsl.environments.rollout, wmdsl.environments.metaworld;"
        "print([m for m in ('torch', 'mujoco', 'metaworld', 'av') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_files_roll_over_when_they_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_DATA_MEGABYTES", 1e-6)
    monkeypatch.setattr(writer, "_VIDEO_MEGABYTES", 1e-6)
    root = write_dataset(tmp_path / "rolled")
    assert len(list(root.glob("videos/*/chunk-000/*.mp4"))) == len(LENGTHS)
    assert len(list(root.glob("data/chunk-000/*.parquet"))) == len(LENGTHS)
    opened = Dataset(root)
    assert np.array_equal(np.stack(list(opened.frames(CAMERA))), stacked(CAMERA))
    assert np.array_equal(opened.columns([keys.ACTION])[keys.ACTION], stacked(keys.ACTION))


def test_images_inside_parquet_are_read(shared_dataset, dataset):
    """A dataset that stores PNG files in its rows, as LeRobot does without video."""
    frames = np.concatenate(
        [np.repeat(episode(n)[1][CAMERA], STRIDE, 0)[:length] for n, length in enumerate(LENGTHS)]
    )
    records = [{"bytes": png(frame), "path": None} for frame in frames]

    def store(info):
        info["features"][CAMERA] |= {"dtype": "image"}

    edit_info(dataset, store)
    rewrite_rows(dataset, lambda table: table.append_column(CAMERA, pa.array(records)))
    found = np.stack(list(Dataset(dataset).frames(CAMERA)))
    assert np.array_equal(found, np.stack(list(Dataset(shared_dataset).frames(CAMERA))))


def png(image):
    import av

    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", 1
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def test_a_frame_can_be_read_at_another_size(shared_dataset):
    small = next(Dataset(shared_dataset).frames(CAMERA, (8, 12)))
    whole = next(Dataset(shared_dataset).frames(CAMERA)).astype(float)
    average = whole.reshape(8, 2, 12, 2, 3).mean((1, 3))
    assert small.shape == (8, 12, 3)
    assert np.abs(small - average).max() <= 2


def test_a_missing_folder_and_missing_files(dataset, tmp_path):
    raised("WM851", lambda: DatasetInfo.read(tmp_path / "nowhere"))
    (dataset / "videos" / CAMERA / "chunk-000/file-000.mp4").unlink()
    raised("WM851", lambda: list(Dataset(dataset).frames(CAMERA)))
    (dataset / "data/chunk-000/file-000.parquet").unlink()
    raised("WM851", lambda: Dataset(dataset).columns([keys.ACTION]))
    (dataset / "meta/info.json").unlink()
    raised("WM851", lambda: DatasetInfo.read(dataset))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    ("path", "use"),
    [
        ("data/chunk-000/file-000.parquet", lambda opened: opened().columns([keys.ACTION])),
        (f"videos/{CAMERA}/chunk-000/file-000.mp4", lambda opened: list(opened().frames(CAMERA))),
        ("meta/episodes/chunk-000/file-000.parquet", lambda opened: opened()),
        ("meta/tasks.parquet", lambda opened: opened()),
        ("meta/info.json", lambda opened: opened()),
        ("meta/stats.json", lambda opened: opened().info.stats()),
    ],
)
def test_truncated_files(dataset, path, use, share):
    content = (dataset / path).read_bytes()
    (dataset / path).write_bytes(content[: int(share * len(content))])
    error = raised("WM852", lambda: use(lambda: Dataset(dataset)))
    assert error.where.endswith(path)


def test_corrupt_bytes_in_a_video(dataset):
    path = dataset / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)
    raised("WM852", lambda: list(Dataset(dataset).frames(CAMERA)))


def test_not_a_number_names_row_and_episode(dataset):
    actions = stacked(keys.ACTION)
    actions[LENGTHS[0] + 2, 1] = np.nan
    rewrite_rows(dataset, lambda table: replaced(table, keys.ACTION, list(actions)))
    error = raised("WM855", lambda: Dataset(dataset).columns([keys.ACTION]))
    assert "action[1] is not finite in row 2 of episode 1" in error.what


def test_a_rate_that_contradicts_the_time_stamps(dataset):
    edit_info(dataset, lambda info: info.update(fps=FPS // 2))
    raised("WM856", lambda: Dataset(dataset).columns([keys.ACTION]))
    raised("WM856", lambda: list(Dataset(dataset).frames(CAMERA)))


def test_a_camera_rate_that_does_not_divide(dataset):
    def slow(info):
        info["features"][CAMERA]["info"][lerobot.RATE_FIELD] = 3

    edit_info(dataset, slow)
    raised("WM856", lambda: DatasetInfo.read(dataset).stride(CAMERA))


def test_unknown_names_offer_the_nearest(shared_dataset):
    opened = Dataset(shared_dataset)
    assert "'top'" in raised("WM854", lambda: opened.info.camera("topp")).help
    assert "'action'" in raised("WM854", lambda: opened.columns(["actoin"])).help


@pytest.mark.parametrize("field", ["fps", "features", "codebase_version", "total_frames"])
def test_incomplete_description(dataset, field):
    edit_info(dataset, lambda info: info.pop(field))
    assert field in raised("WM853", lambda: DatasetInfo.read(dataset)).what


def test_a_camera_has_three_axes(dataset):
    edit_info(dataset, lambda info: info["features"][CAMERA].update(shape=[16, 24]))
    assert "three axes" in raised("WM853", lambda: DatasetInfo.read(dataset)).what


def test_another_version_says_how_to_convert(dataset):
    edit_info(dataset, lambda info: info.update(codebase_version="v2.1"))
    assert "convert" in raised("WM853", lambda: DatasetInfo.read(dataset)).help


def test_totals_must_agree_with_the_files(dataset):
    edit_info(dataset, lambda info: info.update(total_frames=1000))
    raised("WM853", lambda: Dataset(dataset))


def test_the_writer_refuses_what_it_cannot_write(tmp_path):
    vectors, images = episode(0)
    wrong = {**vectors, keys.ACTION: np.full((LENGTHS[0], 2), np.nan, np.float32)}
    short = {CAMERA: images[CAMERA][:-1]}
    root = tmp_path / "refused"
    with open_writer(root) as target:
        raised("WM855", lambda: target.add_episode(wrong, images, "t"))
        raised("WM857", lambda: target.add_episode(vectors, short, "t"))
        raised("WM853", lambda: target.add_episode({}, images, "t"))
        raised("WM862", lambda: target.finish({}))
    root.mkdir(exist_ok=True)
    raised("WM860", lambda: open_writer(root))


def open_writer(root):
    return writer.DatasetWriter(root, FPS, features(), "synthetic")


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "half") as target:
        target.add_episode(*episode(0), "t")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_statistics_of_vectors_and_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    repeats = [1, 4, 2]
    histogram = PixelHistogram()
    histogram.add(images, repeats)
    found = histogram.statistics()
    pixels = np.repeat(images, repeats, 0).reshape(-1, 3) / 255
    expected = vector_statistics(pixels)
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(found[name].ravel(), expected[name], atol=1e-12)
    for name in ("q01", "q10", "q50", "q90", "q99"):
        assert np.abs(found[name].ravel() - expected[name]).max() <= 1 / 255
    assert found["count"].tolist() == [7]
    assert found["mean"].shape == (3, 1, 1)
