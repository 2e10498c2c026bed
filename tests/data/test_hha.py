"""HHA: against a slow implementation written from the same specification by somebody else, and against geometry."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slow_hha as slow
from PIL import Image

from files import DataError

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "nyud" / "hha.py"
spec = importlib.util.spec_from_file_location("hha", SCRIPT)
fast = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fast)

LEVEL, UPRIGHT, UPSIDE_DOWN = 38, 128, 218  # the channel of angles: a floor, a wall, a ceiling


@pytest.fixture(autouse=True)
def _no_silent_numbers():
    with np.errstate(all="raise", under="ignore"):
        yield


def turned(pitch, roll):
    """The rotation of a camera that looks down by ``pitch`` degrees and leans by ``roll``: room to camera."""
    a, b = np.radians([pitch, roll])
    nod = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    lean = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return lean @ nod


# (normal in the room's axes, pointing away from the camera; distance in m)
FLOOR, CEILING, WALL = ((0, 1, 0), 1.5), ((0, -1, 0), 1.1), ((0, 0, 1), 3.0)
SIDES = ((0.8, 0, 0.6), 2.2), ((-0.8, 0, 0.6), 2.5)
ROOM = (FLOOR, CEILING, WALL, *SIDES)


def see(planes, shape, camera="cropped", pitch=0, roll=0):
    """What the camera sees of planes: depth in mm (float), and which plane each pixel sees."""
    lens = fast.CAMERAS[camera]
    row, column = np.mgrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    rays = np.stack([(column - lens.cx) / lens.fx, (row - lens.cy) / lens.fy, np.ones(shape)], 2)
    depths = []
    for normal, distance in planes:
        toward = rays @ (turned(pitch, roll) @ np.array(normal, float))
        depths.append(np.where(toward > 1e-6, 1000 * distance / np.maximum(toward, 1e-6), np.inf))
    return np.min(depths, 0), np.argmin(depths, 0)


def whole_millimetres(depth):
    return np.clip(np.rint(depth), 1, 65535).astype(np.uint16)


def ragged_holes(rng, shape, share):
    """Where a sensor saw nothing: blobs of any form, and single pixels."""
    coarse = rng.normal(size=(shape[0] // 12 + 2, shape[1] // 12 + 2))
    blobs = np.kron(coarse, np.ones((12, 12)))[: shape[0], : shape[1]]
    for axis in (0, 1):
        blobs = sum(np.roll(blobs, k, axis) for k in range(-5, 6))
    blobs += rng.normal(size=shape) * blobs.std() / 4
    return blobs < np.quantile(blobs, share)


def inside(mask, reach=4):
    """The pixels of ``mask`` whose windows of normals lie in it."""
    padded = np.pad(mask, reach)
    sides = range(2 * reach + 1)
    return np.all(
        [padded[i : i + mask.shape[0], j : j + mask.shape[1]] for i in sides for j in sides], axis=0
    )


def on_a_line(seen, half):
    """Where the pixels seen in a window do not span a plane: none, one, or all on a line. In whole numbers."""
    result = np.zeros(seen.shape, bool)
    for r, c in np.ndindex(seen.shape):
        rows, columns = np.nonzero(seen[max(r - half, 0) : r + half + 1, max(c - half, 0) : c + half + 1])
        if len(rows) < 3:
            result[r, c] = True
            continue
        down, right = rows - rows[0], columns - columns[0]
        far = np.argmax(down**2 + right**2)
        result[r, c] = not np.any(down * right[far] - right * down[far])
    return result


@pytest.mark.parametrize("camera", ["cropped", "full"])
@pytest.mark.parametrize(
    "pitch, roll, noise, holes",
    [(0, 0, 0, None), (12, 5, 0, None), (-14, -8, 3, 0.1), (25, 3, 10, 0.2), (38, -20, 2, 0.35)],
)
def test_equals_the_slow_implementation(monkeypatch, camera, pitch, roll, noise, holes):
    rng = np.random.default_rng(pitch + 100)
    shape = (63, 84)
    depth, _ = see(ROOM, shape, camera, pitch, roll)
    depth = whole_millimetres(depth + rng.normal(0, noise, shape))
    raw = None
    if holes:
        raw = np.where(ragged_holes(rng, shape, holes), 0, depth).astype(np.uint16)
        raw[25:50, 15:40] = 0
    ours = fast.hha(depth, raw, camera)
    assert ours.dtype == np.uint8 and ours.shape == (*shape, 3)

    # In exact arithmetic adj(A) b is 0 where a window's points lie on a line, so that there is no normal. Floating
    # point leaves rounding errors there, which become directions by chance when they are scaled to length 1.
    plain, lines = slow.window_normals, {}

    def exact(points, half):
        lines[half] = on_a_line(~np.isnan(points[:, :, 2]), half)
        normals = plain(points, half)
        normals[lines[half]] = np.nan
        return normals

    monkeypatch.setattr(slow, "window_normals", exact)
    apart = np.abs(ours.astype(int) - slow.slow_hha(depth, raw, camera))
    assert bool(holes) == lines[3].any()
    assert (apart <= 1).mean((0, 1)).min() >= 0.999
    assert (apart == 0).mean((0, 1)).min() >= 0.999, "more than was asked for, but so it was when written"
    assert (ours[lines[3], 2] == UPSIDE_DOWN).all()


@pytest.mark.parametrize("camera", ["cropped", "full"])
def test_equals_the_slow_implementation_as_it_is_where_all_windows_span_a_plane(camera):
    depth, _ = see(ROOM, (63, 84), camera, 18, -6)
    rng = np.random.default_rng(5)
    depth = whole_millimetres(depth + rng.normal(0, 4, depth.shape))
    raw = np.where(rng.random(depth.shape) < 0.3, 0, depth).astype(np.uint16)
    raw[30:32, 20:70] = raw[10:55, 50:52] = 0
    assert not on_a_line(raw > 0, 3).any()
    apart = np.abs(fast.hha(depth, raw, camera).astype(int) - slow.slow_hha(depth, raw, camera))
    assert (apart <= 1).mean((0, 1)).min() >= 0.999
    assert (apart == 0).mean((0, 1)).min() >= 0.999, "more than was asked for, but so it was when written"


@pytest.mark.parametrize("reach", [3, 10])
@pytest.mark.parametrize("pitch, roll", [(0, 0), (20, -9)])
def test_normals_of_planes_are_theirs(pitch, roll, reach):
    planes = (*ROOM, ((0, 0.6, 0.8), 2.6))
    depth, which = see(planes, (425, 560), pitch=pitch, roll=roll)
    lens = fast.CAMERAS["cropped"]
    cloud = fast.points(depth, lens)
    normals = fast.normals(cloud, depth > 0, lens, reach)
    assert len(np.unique(which)) > 3
    for plane, (normal, distance) in enumerate(planes):
        pixels, toward = which == plane, turned(pitch, roll) @ np.array(normal, float)
        assert np.abs(cloud[pixels] @ toward - 100 * distance).max(initial=0) < 1e-9
        assert np.abs(normals[inside(pixels, reach)] - toward).max(initial=0) < 1e-8


@pytest.mark.parametrize("pitch, roll", [(8, 0), (10, 0), (-15, 6), (30, -12)])
def test_a_room_has_the_angles_and_heights_that_it_has(pitch, roll):
    depth, which = see(ROOM, (425, 560), "cropped", pitch, roll)
    disparity, height, angle = np.moveaxis(fast.hha(whole_millimetres(depth)).astype(int), 2, 0)
    for plane, expected in enumerate((LEVEL, UPSIDE_DOWN, UPRIGHT, UPRIGHT, UPRIGHT)):
        off = angle[inside(which == plane)] - expected
        assert np.abs(off).max(initial=0) <= 2, "whole millimetres are not quite on the plane"
        assert not off.size or abs(off.mean()) < 0.1
    assert np.abs(disparity - np.minimum(31000 / np.maximum(depth / 10, 100), 255)).max() <= 1
    # the lowest point is on the floor; where the camera looks up, on a wall that it sees to the bottom of the image
    if pitch > 0:
        assert (height[which == 0] <= 1).all()
        assert (height[which == 1] >= 254).all()
    up = -(fast.points(depth, fast.CAMERAS["cropped"]) @ turned(pitch, roll) @ [0, 1, 0])
    assert pitch > 0 or -90 < up.min()
    assert np.abs(height - np.minimum(up + (150 if pitch > 0 else 130), 255)).max() <= 1.5


@pytest.mark.parametrize("camera, top", [("cropped", 45), ("full", 0)])
def test_a_wall_straight_ahead(camera, top):
    shape = (425, 560) if camera == "cropped" else (480, 640)
    image = fast.hha(np.full(shape, 2500, np.uint16), None, camera)
    assert (image[:, :, 0] == 124).all()  # 31000 / 250
    assert (image[:, :, 2] == UPRIGHT).all()
    # the lowest point is 250 cm (rows - cy) / fy below the camera
    up = (253.73616633400465 - top - np.arange(1, shape[0] + 1)) * 250 / 519.46961112127485
    assert up.min() < -90
    assert (image[:, :, 1] == np.floor(up - up.min() + 0.5)[:, None]).all()


def test_where_no_floor_is_seen_the_camera_is_130_cm_above_it():
    image = fast.hha(np.full((425, 560), 1000, np.uint16))
    up = (208.73616633400465 - np.arange(1, 426)) * 100 / 519.46961112127485
    assert -90 < up.min() < -30
    assert (image[:, :, 1] == np.floor(up + 130.5)[:, None]).all()


@pytest.mark.parametrize("lowest, ground", [(89.9, 130), (90, 90), (90.1, 90.1)])
def test_the_floor_is_seen_from_90_cm_on(lowest, ground):
    cloud = np.array([[[0, lowest, 300], [0, 10, 300.0]]])
    assert fast.height(cloud, fast.DOWN)[0].tolist() == [ground - lowest, ground - 10]


def test_disparity_by_hand():
    # 31000 / 496 = 62.5 exactly; 100 cm and less give 310, cut off; 1216 mm is the first below 255
    depth = np.array([[4960, 1000, 10, 1216, 1214, 65535]], np.uint16)
    assert fast.hha(depth)[0, :, 0].tolist() == [63, 255, 255, 255, 255, 5]
    assert fast.hha(np.array([[1219, 1221]], np.uint16))[0, :, 0].tolist() == [254, 254]


def test_rounding_is_matlabs():
    values = np.array([0.5, 1.5, 2.5, 0.49999999999999994, -0.5, -7, 254.5, 255.4, 1e9, 37.49])
    assert fast.to_uint8(values).tolist() == [1, 2, 3, 0, 0, 0, 255, 255, 255, 37]


def test_missing_points_take_no_part_in_normals_but_have_a_height():
    depth, which = see((FLOOR, WALL), (425, 560), pitch=15)
    depth = whole_millimetres(depth)
    raw = depth.copy()
    bad = np.zeros(depth.shape, bool)
    bad[380:400, 200:260] = True
    wrong = np.where(bad, depth // 2, depth).astype(np.uint16)  # a bad guess of what is in the hole
    raw[bad] = 0
    image = fast.hha(wrong, raw)
    around = inside(which == 0) & ~bad
    assert np.abs(image[around][:, 2].astype(int) - LEVEL).max() <= 1
    middle = image[389, 229]
    assert middle[2] == UPSIDE_DOWN, "no point in its window: no normal"
    assert np.abs(int(middle[1]) - 75) <= 1, "half way up"
    unmasked = fast.hha(wrong)
    assert np.abs(unmasked[around][:, 2].astype(int) - LEVEL).max() > 20


def test_a_pixel_of_no_depth_is_one_that_was_not_seen():
    depth, _ = see(ROOM, (60, 80), pitch=10)
    depth = whole_millimetres(depth)
    holes = ragged_holes(np.random.default_rng(4), depth.shape, 0.2)
    raw = np.where(holes, 0, depth).astype(np.uint16)
    both, one = fast.hha(raw), fast.hha(depth, raw)
    assert (both[~holes] == one[~holes]).mean() > 0.99
    assert (both[holes][:, 0] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (7, 7), (21, 5), (480, 640)])
@pytest.mark.parametrize("value", [0, 1, 900, 65535])
@pytest.mark.filterwarnings("error")
def test_any_size_and_any_depth(shape, value):
    depth = np.full(shape, value, np.uint16)
    for raw in (None, depth, np.zeros(shape, np.uint16)):
        image = fast.hha(depth, raw)
        assert image.shape == (*shape, 3) and image.dtype == np.uint8
        if min(shape) == 1 or value == 0 or (raw is not None and not raw.any()):
            assert (image[:, :, 2] == UPSIDE_DOWN).all(), "no plane, no normal"
        else:
            assert (image[:, :, 2] == UPRIGHT).all()


def test_gravity_stays_where_nothing_tells_it():
    assert (fast.gravity_direction(np.full((3, 4, 3), np.nan)) == fast.DOWN).all()
    ahead = np.zeros((5, 5, 3)) + (0, 0, 1)
    assert np.abs(fast.gravity_direction(ahead) - fast.DOWN).max() < 1e-12
    tilted = np.zeros((5, 5, 3)) + (0, np.sin(0.2), np.cos(0.2))  # one wall: the nearest that is upright
    assert np.abs(fast.gravity_direction(tilted) - (0, np.cos(0.2), -np.sin(0.2))).max() < 1e-12


@pytest.mark.parametrize("degrees, turns", [(0.09, False), (0.12, True)])
def test_gravity_within_a_tenth_of_a_degree_turns_nothing(degrees, turns):
    tilt = np.radians(degrees)
    height = fast.height(np.array([[[0.0, 60, 5000]]]), np.array([0, np.cos(tilt), np.sin(tilt)]))
    below = 60 * np.cos(tilt) + 5000 * np.sin(tilt) if turns else 60
    assert height[0, 0] == pytest.approx(130 - below, abs=1e-9)


@pytest.mark.parametrize(
    "depth, raw, told",
    [
        (
            np.ones((4, 4), np.float32),
            None,
            "depth is an array of float32 of shape (4, 4); it must be H x W integers",
        ),
        (np.ones((4, 4, 3), np.uint16), None, "of shape (4, 4, 3)"),
        (np.ones((0, 4), np.uint16), None, "of shape (0, 4)"),
        (np.ones((4, 4), np.uint16), np.ones((4, 5), np.uint16), "(4, 4), raw depth of (4, 5)"),
        (np.ones((4, 4), np.uint16), np.ones((4, 4)), "raw depth is an array of float64"),
    ],
)
def test_arrays_of_another_kind(depth, raw, told):
    with pytest.raises(DataError) as error:
        fast.hha(depth, raw)
    assert told in str(error.value)


def test_at_most_a_second_an_image_on_one_core():
    program = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy, hha
rng = numpy.random.default_rng(0)
depth = (2000 + 900 * numpy.sin(numpy.arange(560) / 60) + rng.normal(0, 9, (425, 560))).astype(numpy.uint16)
raw = numpy.where(rng.random(depth.shape) < 0.1, 0, depth).astype(numpy.uint16)
for _ in range(5):
    start = time.perf_counter()
    hha.hha(depth, raw)
    print(time.perf_counter() - start)
"""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-c", program, str(SCRIPT.parent)]
    done = subprocess.run(command, env={**os.environ, **one}, capture_output=True, text=True, check=True)
    times = sorted(map(float, done.stdout.split()))
    print(f"median {times[2]:.2f} s")
    assert times[0] <= 1  # others may be at work on this machine


def write(path, values):
    Image.fromarray(values).save(path)
    return str(path)


def test_the_command(tmp_path, capsys):
    depth = whole_millimetres(see(ROOM, (60, 80), "full", 10)[0])
    raw = np.where(np.arange(80) < 9, 0, depth).astype(np.uint16)
    paths = [write(tmp_path / "depth.png", depth), write(tmp_path / "raw.png", raw)]
    out = tmp_path / "new" / "hha.png"
    assert fast.main([*paths, "--out", str(out), "--camera", "full"]) == 0
    with Image.open(out) as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == fast.hha(depth, raw, "full")).all()
    assert fast.main([paths[0], "--out", str(out)]) == 0
    assert (np.asarray(Image.open(out)) == fast.hha(depth)).all()
    lens = list(map(str, fast.CAMERAS["full"]))
    assert fast.main([paths[0], "--out", str(out), "--intrinsics", *lens]) == 0
    assert (np.asarray(Image.open(out)) == fast.hha(depth, None, "full")).all()
    assert capsys.readouterr() == ("", "")
    assert fast.main([paths[1], "--out", str(out)]) == 0
    assert f"540 pixels of {paths[1]} have no depth" in capsys.readouterr().out


def test_what_the_command_says_of_files_that_it_cannot_use(tmp_path, capsys):
    depth = write(tmp_path / "depth.png", np.full((6, 8), 900, np.uint16))
    out = tmp_path / "hha.png"

    def told(*arguments):
        assert fast.main([*map(str, arguments), "--out", str(out)]) == 1
        assert not out.exists()
        return capsys.readouterr().err

    grey = write(tmp_path / "grey.png", np.full((6, 8), 90, np.uint8))
    assert f"{grey} has mode L; depth is in millimetres, as a 16-bit PNG" in told(grey)
    assert f"{tmp_path / 'none.png'} does not exist" in told(tmp_path / "none.png")
    other = write(tmp_path / "other.png", np.full((6, 9), 900, np.uint16))
    assert f"{depth} is 8 x 6 pixels, {other} 9 x 6" in told(depth, other)
    noise = np.random.default_rng(0).integers(1, 9000, (60, 80)).astype(np.uint16)
    whole = Path(write(tmp_path / "whole.png", noise)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in told(tmp_path / "cut.png")
