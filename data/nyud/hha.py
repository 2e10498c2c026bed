"""HHA: a depth image as three channels, horizontal disparity, height above ground, angle with gravity.

    python data/nyud/hha.py depth.png [raw.png] --out hha.png --camera full

``depth.png`` is a 16-bit PNG in millimetres whose holes were filled in; ``raw.png``, if there is one, the same before
that, with 0 where nothing was measured. ``hha.png`` is what ``infer.py --hha`` takes.

The encoding of S. Gupta, R. Girshick, P. Arbelaez, J. Malik, "Learning Rich Features from RGB-D Images for Object
Detection and Segmentation", ECCV 2014, with the constants of their code (rcnn-depth: saveHHA, processDepthImage).
Lengths are in centimetres, in the camera's axes: X right, Y down, Z ahead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import correlate1d

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

import images  # noqa: E402
import vis  # noqa: E402
from files import DataError  # noqa: E402


class Camera(NamedTuple):
    """Focal lengths and principal point of a pinhole camera, in pixels; the first pixel is (1, 1)."""

    fx: float
    fy: float
    cx: float
    cy: float


_KINECT = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
# NYUDv2's colour camera, to which its depth is aligned: 480 x 640, or without the frame's 45 rows and 40 columns
CAMERAS = {"cropped": _KINECT._replace(cx=_KINECT.cx - 40, cy=_KINECT.cy - 45), "full": _KINECT}

REACH_ANGLE, REACH_GRAVITY = 3, 10  # normals come from windows of 7 x 7 pixels, and of 21 x 21
GRAVITY_STAGES = ((45, 5), (15, 5))  # degrees off, and how often
DOWN = np.array([0.0, 1.0, 0.0])


def hha(depth: np.ndarray, raw: np.ndarray | None = None, camera: str | Camera = "cropped") -> np.ndarray:
    """Disparity, height, angle: uint8, H x W x 3, in the order of the PNG's R, G, B.

    - R = 31000 / max(Z, 100): disparity, 255 from 121.6 cm on and nearer
    - G = :func:`height` in cm
    - B = 38 + the degrees between the surface's normal and gravity; 218 where there is no normal

    each rounded and cut off as MATLAB does (:func:`to_uint8`). ``depth``: H x W integers, millimetres, holes filled
    in. ``raw``: the same with 0 where nothing was measured; such pixels, and those of depth 0, take no part in the
    normals. ``camera``: "cropped" (425 x 560, as the nets see it), "full" (480 x 640), or a :class:`Camera`.
    Raises DataError for arrays of another kind.
    """
    for values, what in ((depth, "depth"), (raw, "raw depth")):
        if values is not None and (values.ndim != 2 or not values.size or values.dtype.kind not in "ui"):
            raise DataError(
                f"{what} is an array of {values.dtype} of shape {values.shape}; it must be H x W integers, millimetres"
            )
    if raw is not None and raw.shape != depth.shape:
        raise DataError(
            f"depth is of shape {depth.shape}, raw depth of {raw.shape}; they must be of one image"
        )
    camera = CAMERAS[camera] if isinstance(camera, str) else camera
    cloud = points(depth, camera)
    seen = depth > 0 if raw is None else (depth > 0) & (raw > 0)
    gravity = gravity_direction(normals(cloud, seen, camera, REACH_GRAVITY))
    cosine = normals(cloud, seen, camera, REACH_ANGLE) @ gravity
    angle = np.degrees(np.arccos(np.where(np.isnan(cosine), -1, np.clip(cosine, -1, 1))))
    disparity = 31000 / np.maximum(cloud[:, :, 2], 100)
    return to_uint8(np.stack([disparity, height(cloud, gravity), angle + 128 - 90], axis=2))


def points(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """The point that each pixel sees: H x W x 3, (X, Y, Z) in cm, from depth in mm.

    X = (column - cx) Z / fx, Y = (row - cy) Z / fy, rows and columns counted from 1.
    """
    z = depth / 1000 * 100  # by way of metres, as the original rounds
    across, below = _from_axis(depth.shape, camera)
    return np.stack([across * z / camera.fx, below * z / camera.fy, z], axis=2)


def normals(cloud: np.ndarray, seen: np.ndarray, camera: Camera, reach: int) -> np.ndarray:
    """The unit normal of the surface at each pixel: H x W x 3, towards the side of the surface away from the camera.

    NaN where the points seen in the window of 2 ``reach`` + 1 pixels square do not span a plane.

    A plane n . (X, Y, Z) = 1 is n . (X/Z, Y/Z, 1) = 1/Z, and n is fitted to that by least squares: with A the sum over
    the window of v v', v = (X/Z, Y/Z, 1), and b the sum of v/Z, n is along adj(A) b. As X/Z and Y/Z are linear in
    column and row, the same fit is made here in offsets from the window's middle, in pixels: there A holds whole
    numbers, so that no digits are lost, and a window without a plane has a determinant of exactly 0.
    """
    inverse = np.divide(1, cloud[:, :, 2], out=np.zeros(seen.shape), where=seen)
    s, d = _moments(seen.astype(float), reach, 2), _moments(inverse, reach, 1)
    # the adjugate of A = [[s20, s11, s10], [s11, s02, s01], [s10, s01, s00]], which is symmetric
    a11 = s[0, 2] * s[0, 0] - s[0, 1] ** 2
    a12 = s[1, 0] * s[0, 1] - s[1, 1] * s[0, 0]
    a13 = s[1, 1] * s[0, 1] - s[1, 0] * s[0, 2]
    a22 = s[2, 0] * s[0, 0] - s[1, 0] ** 2
    a23 = s[1, 0] * s[1, 1] - s[2, 0] * s[0, 1]
    a33 = s[2, 0] * s[0, 2] - s[1, 1] ** 2
    spans = s[2, 0] * a11 + s[1, 1] * a12 + s[1, 0] * a13 > 0
    # 1/Z = (right * columns + down * rows + middle) / det(A), columns and rows counted from the window's middle
    right = a11 * d[1, 0] + a12 * d[0, 1] + a13 * d[0, 0]
    down = a12 * d[1, 0] + a22 * d[0, 1] + a23 * d[0, 0]
    middle = a13 * d[1, 0] + a23 * d[0, 1] + a33 * d[0, 0]
    across, below = _from_axis(seen.shape, camera)
    ahead = middle - right * across - down * below
    # the sign: n . point = Z * middle is positive; where the point was not seen, n's Z is
    sign = np.where(np.where(seen & (middle != 0), middle, ahead) < 0, -1, 1)
    normal = np.stack([right * camera.fx * sign, down * camera.fy * sign, ahead * sign], axis=2)
    length = np.sqrt(np.einsum("ijk,ijk->ij", normal, normal))
    length[~spans | (length == 0)] = np.nan
    return normal / length[:, :, np.newaxis]


def gravity_direction(normals: np.ndarray) -> np.ndarray:
    """The direction of gravity, a unit vector (3), found from the normals of a room (... x 3, NaN where there is none).

    It starts as the camera's Y. In each step, floors are surfaces whose normal is within so many degrees of it, up or
    down, and walls those within so many of a right angle; the new direction is the unit vector y with the least sum
    over walls of (n . y)^2 minus the sum over floors of it: the eigenvector of the smallest eigenvalue. Where several
    directions are equally good (a single wall, or nothing at all), the one nearest to the old is taken.
    """
    normals = normals.reshape(-1, 3)
    normals = normals[~np.isnan(normals[:, 0])]
    gravity = DOWN
    for degrees, times in GRAVITY_STAGES:
        floor, wall = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        for _ in range(times):
            along = np.abs(normals @ gravity)
            weight = (along < wall).astype(float) - (along > floor)
            values, vectors = np.linalg.eigh((normals * weight[:, np.newaxis]).T @ normals)
            best = vectors[:, values - values[0] <= 1e-9 * np.abs(values).max()]
            nearest = best @ (best.T @ gravity)
            length = np.linalg.norm(nearest)
            if length > 0:
                gravity = nearest / length
    return gravity


def height(cloud: np.ndarray, gravity: np.ndarray) -> np.ndarray:
    """How high each point lies above the ground: H x W, in cm.

    The points are turned so that gravity becomes the Y axis, unless it is within 0.1 degrees of that already; their Y
    is then their product with it. The ground is at the lowest point; if no point lies 90 cm below the camera, the
    ground is not in the picture, and taken to be 130 cm below the camera.
    """
    off = np.degrees(np.arccos(np.clip(gravity @ DOWN, -1, 1)))
    up = -(cloud @ (gravity if off > 0.1 else DOWN))
    lowest = up.min()
    return up - (lowest if lowest <= -90 else -130)


def to_uint8(values: np.ndarray) -> np.ndarray:
    """``values`` as MATLAB makes them uint8: the nearest integer, halves away from zero, and 0 to 255."""
    values = np.clip(values, 0, 255)
    whole = np.floor(values)
    return (whole + (values - whole >= 0.5)).astype(np.uint8)


def _from_axis(shape: tuple[int, int], camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Columns (1 x W) and rows (H x 1) counted from the principal point."""
    across, below = np.arange(1, shape[1] + 1) - camera.cx, np.arange(1, shape[0] + 1) - camera.cy
    return across[np.newaxis], below[:, np.newaxis]


def _moments(values: np.ndarray, reach: int, degree: int) -> dict[tuple[int, int], np.ndarray]:
    """{(i, j): the sum of values * columns^i * rows^j} for i + j <= ``degree``, in the square window at each pixel.

    Columns and rows are counted from the window's middle; outside the image values are 0.
    """
    offsets = np.arange(-reach, reach + 1.0)
    across = [correlate1d(values, offsets**i, axis=1, mode="constant") for i in range(degree + 1)]
    return {
        (i, j): correlate1d(across[i], offsets**j, axis=0, mode="constant")
        for i in range(degree + 1)
        for j in range(degree + 1 - i)
    }


def convert(depth: Path, raw: Path | None, out: Path, camera: str | Camera = "cropped") -> int:
    """Write the HHA of the depth image ``depth`` (and ``raw``) as the PNG ``out``, whole or not at all.

    Returns how many pixels of ``depth`` have none.
    """
    values = images.load_depth(depth, holes=True)
    measured = None if raw is None else images.load_depth(raw, holes=True)
    if measured is not None and measured.shape != values.shape:
        raise DataError(
            f"{depth} is {_size(values)} pixels, {raw} {_size(measured)}; they must be of one image"
        )
    vis.save(out, hha(values, measured, camera))
    return np.count_nonzero(values == 0)


def _size(values: np.ndarray) -> str:
    return f"{values.shape[1]} x {values.shape[0]}"


def main(argv: list[str] | None = None) -> int:
    """The command; the exit status is 1 after an error, which is told in one message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("depth", type=Path, help="16-bit PNG, millimetres, holes filled in")
    parser.add_argument(
        "raw", type=Path, nargs="?", help="16-bit PNG, millimetres, 0 where nothing was measured"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PNG to write")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--camera",
        choices=list(CAMERAS),
        default="cropped",
        help="NYUDv2's 425 x 560 (default) or the Kinect's 480 x 640",
    )
    which.add_argument(
        "--intrinsics",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help="another camera's, in pixels",
    )
    args = parser.parse_args(argv)
    try:
        camera = Camera(*args.intrinsics) if args.intrinsics else args.camera
        if holes := convert(args.depth, args.raw, args.out, camera):
            print(f"{holes} pixels of {args.depth} have no depth and come out as if near: fill them in first")
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
