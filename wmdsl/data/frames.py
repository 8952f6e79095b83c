"""All frames of a camera in one array: decoded once, and kept on disk where that is large."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmdsl.data import errors
from wmdsl.data.reader import Dataset

CACHE_FOLDER = ".wmdsl_cache"
CACHE_FROM_BYTES = 64 * 2**20
_FORMAT = "1"


def load_frames(
    dataset: Dataset, key: str, size: tuple[int, int] | None = None, cache: Path | None = None
) -> np.ndarray:
    """The fresh frames of a camera in row order, uint8 [M, H, W, 3].

    Above 64 MiB they are a read-only memory map of a file in `cache` (by default a folder inside
    the dataset) that is named by the content of the dataset, so that the next run decodes
    nothing. Raises DataError if that file cannot be written.
    """
    _, height, width = dataset.info.feature(key).image_shape
    height, width = size or (height, width)
    shape = (int(dataset.frame_starts(key)[-1]), height, width, 3)
    if np.prod(shape, dtype=np.int64) < CACHE_FROM_BYTES:
        return _filled(np.empty(shape, dtype=np.uint8), dataset.frames(key, size))
    folder = cache or dataset.root / CACHE_FOLDER
    path = folder / f"{key}-{_content_digest(dataset, key, shape)}.npy"
    if not path.exists():
        _write(path, shape, dataset.frames(key, size))
    return np.load(path, mmap_mode="r")


def _write(path: Path, shape: tuple[int, ...], frames: Iterator[np.ndarray]) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_space(path.parent, shape)
        array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        _filled(array, frames).flush()
        os.replace(unfinished, path)
    except OSError as error:
        raise errors.not_writable(path, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _check_space(folder: Path, shape: tuple[int, ...]) -> None:
    # A memory map on a full disk ends the process with a bus error, so look first.
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"decoded frames take {needed >> 20} MiB, {free >> 20} MiB are free")


def _filled(array: np.ndarray, frames: Iterator[np.ndarray]) -> np.ndarray:
    for number, frame in enumerate(frames):
        array[number] = frame
    return array


def _content_digest(dataset: Dataset, key: str, shape: tuple[int, ...]) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {key} {shape} {dataset.info.stride(key)}".encode())
    for path in dataset.camera_files(key):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
