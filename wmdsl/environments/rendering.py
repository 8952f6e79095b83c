"""Offscreen MuJoCo rendering that is cheap without a GPU.

A software renderer spends its time on shadow maps, multisampling and reflections, none of
which a 64-pixel image shows; without them an image costs a tenth. What remains depends on
the vertices (see `meshes`), not on the pixels, so supersampling is nearly free.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from wmdsl.environments.base import EnvironmentUnavailable
from wmdsl.environments.meshes import coarse_copy

MAX_SIZE = 512
_SCENE_GEOMS = 1000
_PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libgles2"


def import_mujoco() -> Any:
    """The `mujoco` module, set up to render without a screen.

    Raises EnvironmentUnavailable where the package or an OpenGL library is missing.
    """
    if "mujoco" not in sys.modules and sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
        # Several simulators run beside each other; a renderer with a thread pool each
        # would fight over the cores.
        os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        import mujoco
    except ImportError as error:
        raise EnvironmentUnavailable(
            f"MuJoCo cannot be imported: {error}", "mujoco", "pip install 'wmdsl[metaworld]'"
        ) from error
    return mujoco


def _load_compiler_first() -> None:
    """Load Triton's LLVM before Mesa's: in the other order a later import of Triton crashes."""
    with suppress(ImportError):
        import triton._C.libtriton  # noqa: F401


class Renderer:
    """Images of one compiled model; scenes of other instances of that model render too."""

    def __init__(self, model: Any) -> None:
        """`model` is the MjModel whose meshes are uploaded, coarser than they are."""
        mujoco = import_mujoco()
        model = coarse_copy(model)
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, MAX_SIZE)
        model.vis.global_.offheight = max(model.vis.global_.offheight, MAX_SIZE)
        _load_compiler_first()
        _graphics_context()
        self._mujoco = mujoco
        try:
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except mujoco.FatalError as error:
            raise _no_graphics(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, _SCENE_GEOMS)
        for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, model: Any, data: Any, camera_id: int, size: int) -> np.ndarray:
        """The view of a fixed camera, uint8 [size, size, 3], row 0 at the top."""
        mujoco = self._mujoco
        self._camera.fixedcamid = camera_id
        mujoco.mjv_updateScene(
            model, data, self._option, None, self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value, self._scene,
        )  # fmt: skip
        viewport = mujoco.MjrRect(0, 0, size, size)
        mujoco.mjr_render(viewport, self._scene, self._context)
        image = np.empty((size, size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._context)
        return image[::-1]

    def close(self) -> None:
        """Free the graphics memory."""
        self._context.free()


def average_down(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean over `factor` x `factor` pixels, uint8 [factor * H, factor * W, 3] -> [H, W, 3]."""
    if factor == 1:
        return np.ascontiguousarray(image)
    height, width = image.shape[0] // factor, image.shape[1] // factor
    total = np.full((height, width, 3), factor * factor // 2, dtype=np.uint32)
    for row in range(factor):
        for column in range(factor):
            total += image[row::factor, column::factor]
    return (total // (factor * factor)).astype(np.uint8)


@cache
def _graphics_context() -> Any:
    """The OpenGL context of this process: one serves every renderer."""
    mujoco = import_mujoco()
    try:
        context = mujoco.GLContext(MAX_SIZE, MAX_SIZE)
        context.make_current()
        # Left to the garbage collector at exit, it would find its own module already gone.
        atexit.register(context.free)
    except Exception as error:  # each back end fails in its own way: ImportError, EGLError ...
        raise _no_graphics(error) from error
    return context


def _no_graphics(error: Exception) -> EnvironmentUnavailable:
    backend = os.environ.get("MUJOCO_GL")
    if backend is None:
        help = "MuJoCo was imported before this package: set MUJOCO_GL=egl in the environment"
    else:
        help = f"on Debian: {_PACKAGES}; or install libosmesa6 and set MUJOCO_GL=osmesa"
    return EnvironmentUnavailable(
        f"no OpenGL context for offscreen images: {type(error).__name__}: {error}",
        f"MUJOCO_GL={backend or ''}",
        help,
    )
