"""Coarser meshes for small images.

A software renderer works per vertex, and a robot arm has 60,000 of them under a few hundred
pixels. Merging the vertices of large meshes into cells of 1/32 of their size makes images 2-3
times cheaper and moves them by 0.3 of 255 on average. Physics keeps the meshes it has.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

LARGE_FACES = 1500
CELLS_PER_DIAGONAL = 32


def coarse_copy(model: Any) -> Any:
    """A copy of an MjModel, for rendering only, whose large meshes have fewer faces."""
    coarse = copy.deepcopy(model)
    for mesh in np.flatnonzero(coarse.mesh_facenum > LARGE_FACES):
        faces = _span(coarse.mesh_faceadr, coarse.mesh_facenum, mesh)
        vertices = coarse.mesh_vert[_span(coarse.mesh_vertadr, coarse.mesh_vertnum, mesh)]
        merged = _merged_vertices(vertices)[coarse.mesh_face[faces]]
        kept = _distinct_faces(merged)
        shorter = slice(faces.start, faces.start + len(kept))
        coarse.mesh_face[shorter] = merged[kept]
        for corners in (coarse.mesh_facenormal, coarse.mesh_facetexcoord):
            corners[shorter] = corners[faces][kept]
        coarse.mesh_facenum[mesh] = len(kept)
    return coarse


def _span(starts: np.ndarray, counts: np.ndarray, index: int) -> slice:
    return slice(int(starts[index]), int(starts[index] + counts[index]))


def _merged_vertices(vertices: np.ndarray) -> np.ndarray:
    """For each vertex [V, 3] the number of the first one in its cell, int64 [V]."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    cells = np.floor((vertices - low) / (np.linalg.norm(high - low) / CELLS_PER_DIAGONAL))
    _, first, cell_of_vertex = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    return first[cell_of_vertex.ravel()]


def _distinct_faces(faces: np.ndarray) -> np.ndarray:
    """Numbers of the faces [F, 3] that still are triangles, each triangle once."""
    ordered = np.sort(faces, axis=1)
    proper = (ordered[:, 0] < ordered[:, 1]) & (ordered[:, 1] < ordered[:, 2])
    _, first = np.unique(ordered, axis=0, return_index=True)
    return np.intersect1d(first, np.flatnonzero(proper))
