"""A slow, plain HHA encoder, for checking a fast one.

It was written from section 9 of the data fact sheet alone, steps 1 to 10, without sight of any other
implementation. Nothing here is clever: one pixel at a time, every window summed afresh. Expect half a
second for a 60 x 80 picture. All arithmetic is in double precision.

Where two correct programs may still differ (the sums are the same but rounded differently):

* a window with fewer than three usable points, or with all of them on one image line, has no plane. Its
  normal is rounding noise, or NaN when the noise happens to be exactly zero;
* at a missing pixel only the first sign rule decides. A plane with Nz = 0 (a level floor) then has a sign
  that depends on rounding, and its angle channel is 38 or 218;
* an eigenvalue tie, for instance a picture of one flat wall and nothing else, leaves gravity to LAPACK.
"""

import math

import numpy as np

# Step 2. The NYUDv2 toolbox's colour camera, in pixels.
FX = 518.85790117450188
FY = 519.46961112127485
CX = 325.58244941119034
CY = 253.73616633400465
# Step 2. What the 425 x 560 crop takes off the principal point.
CROP_LEFT = 40
CROP_TOP = 45

NAN_TRIPLE = (math.nan, math.nan, math.nan)


def slow_hha(depth_mm, raw_mm, camera="cropped"):
    """The HHA picture, H x W x 3 uint8, as R = disparity, G = height, B = angle.

    `depth_mm` is the in-painted depth and `raw_mm` the sensor's, both H x W uint16 in millimetres; `raw_mm`
    None means that nothing is missing. `camera` is "cropped" or "full". The constants are used as they are
    whatever the size of the picture.
    """
    depth_mm = np.asarray(depth_mm)
    if depth_mm.ndim != 2 or depth_mm.size == 0:
        raise ValueError(f"depth must be a non-empty H x W array, not {depth_mm.shape}")
    if raw_mm is not None and np.shape(raw_mm) != depth_mm.shape:
        raise ValueError(f"depth is {depth_mm.shape} but raw depth is {np.shape(raw_mm)}")

    cx, cy = principal_point(camera)
    points = all_points(depth_mm, cx, cy)  # steps 1 and 3, every pixel
    blanked = blank_missing(points, raw_mm)  # step 1, for the normals only

    fine = window_normals(blanked, 3)  # step 4, for the angle
    coarse = window_normals(blanked, 10)  # step 4, for gravity
    down = gravity(coarse)  # step 5
    height = heights(points, down)  # steps 6 and 7: in-painted points, so never NaN
    angle = angles(fine, down)  # step 8

    # Step 9. Step 10 keeps the order R, G, B in memory: nothing is flipped.
    rows, columns = depth_mm.shape
    picture = np.zeros((rows, columns, 3), dtype=np.uint8)
    for r in range(rows):
        for c in range(columns):
            depth_cm = points[r, c, 2]
            picture[r, c, 0] = matlab_uint8(31000.0 / max(depth_cm, 100.0))
            picture[r, c, 1] = matlab_uint8(height[r, c])
            picture[r, c, 2] = matlab_uint8(angle[r, c] + 128.0 - 90.0)
    return picture


def principal_point(camera):
    """Step 2: (cx, cy) of the named camera. The focal lengths are the same for both."""
    if camera == "full":
        return CX, CY
    if camera == "cropped":
        return CX - CROP_LEFT, CY - CROP_TOP
    raise ValueError(f'camera must be "cropped" or "full", not {camera!r}')


def all_points(depth_mm, cx, cy):
    """Steps 1 and 3: the point (X, Y, Z) of every pixel, in centimetres, Y down."""
    rows, columns = depth_mm.shape
    points = np.zeros((rows, columns, 3))
    for r in range(rows):
        for c in range(columns):
            metres = float(depth_mm[r, c]) / 1000.0
            z = 100.0 * metres
            # Rows and columns count from 1 in the facts, from 0 here.
            points[r, c, 0] = ((c + 1) - cx) * z / FX
            points[r, c, 1] = ((r + 1) - cy) * z / FY
            points[r, c, 2] = z
    return points


def blank_missing(points, raw_mm):
    """Step 1: a copy of the points with NaN where the sensor saw nothing.

    The facts do not say what an in-painted depth of 0 does. Step 4's quotients do not exist there, so it is
    blanked as well: such a pixel can say nothing about a plane.
    """
    blanked = points.copy()
    rows, columns = points.shape[:2]
    for r in range(rows):
        for c in range(columns):
            missing = raw_mm is not None and raw_mm[r][c] == 0
            if missing or points[r, c, 2] == 0.0:
                blanked[r, c] = math.nan
    return blanked


def window_normals(points, half):
    """Step 4: the unit normal at every pixel, from the square window that reaches `half` to each side.

    A missing pixel gets a normal too when its window holds points: the facts blank the points, not the
    result. NaN stands where there is none.
    """
    rows, columns = points.shape[:2]

    # The nine different terms of one point. A missing point adds nothing, to the count of ones either.
    terms = np.zeros((rows, columns, 9))
    for r in range(rows):
        for c in range(columns):
            x, y, z = (float(value) for value in points[r, c])
            if math.isnan(z):
                continue
            zz = z * z
            terms[r, c] = (
                x * x / zz,
                x * y / zz,
                x / z,
                y * y / zz,
                y / z,
                1.0,
                x / zz,
                y / zz,
                1.0 / z,
            )

    normals = np.zeros((rows, columns, 3))
    for r in range(rows):
        top, bottom = max(r - half, 0), min(r + half, rows - 1)
        for c in range(columns):
            left, right = max(c - half, 0), min(c + half, columns - 1)
            # Stopping at the border gives the same sum as going past it over zeros.
            window = terms[top : bottom + 1, left : right + 1]
            xx, xy, x1, yy, y1, n, bx, by, bz = (float(window[:, :, k].sum()) for k in range(9))
            normal = plane_normal(((xx, xy, x1), (xy, yy, y1), (x1, y1, n)), (bx, by, bz))
            normals[r, c] = with_sign(normal, points[r, c])
    return normals


def plane_normal(matrix, b):
    """Step 4: adj(A) b, scaled to length 1. The determinant is left out: it is a scale, and never below 0."""
    (a11, a12, a13), (a21, a22, a23), (a31, a32, a33) = matrix
    # Entry (i, j) of the adjugate is cofactor (j, i).
    adjugate = (
        (a22 * a33 - a23 * a32, a13 * a32 - a12 * a33, a12 * a23 - a13 * a22),
        (a23 * a31 - a21 * a33, a11 * a33 - a13 * a31, a13 * a21 - a11 * a23),
        (a21 * a32 - a22 * a31, a12 * a31 - a11 * a32, a11 * a22 - a12 * a21),
    )
    vector = [row[0] * b[0] + row[1] * b[1] + row[2] * b[2] for row in adjugate]
    length = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    if length == 0.0:
        return NAN_TRIPLE  # 0 / 0: an empty window
    return vector[0] / length, vector[1] / length, vector[2] / length


def with_sign(normal, point):
    """Step 4: the two sign rules, in the facts' order. A NaN normal stays NaN."""
    nx, ny, nz = normal
    # First Nz >= 0. A zero counts as +1.
    if nz < 0.0:
        nx, ny, nz = -nx, -ny, -nz
    # Then N . P >= 0. At a missing pixel P is NaN, the comparison is false, and the sign stays.
    along = nx * float(point[0]) + ny * float(point[1]) + nz * float(point[2])
    if along < 0.0:
        nx, ny, nz = -nx, -ny, -nz
    return nx, ny, nz


def gravity(normals):
    """Step 5: the unit vector that points down, from the R = 10 normals.

    Each stage keeps its threshold; the floor and wall sets are chosen anew, with the newest y, in each of its
    five rounds. Both comparisons are strict, so a normal may belong to neither set.
    """
    valid = []
    for row in normals:
        for normal in row:
            if not np.isnan(normal).any():
                valid.append(normal)

    y = np.array([0.0, 1.0, 0.0])
    for threshold in (45.0, 15.0):
        floor_above = math.cos(math.radians(threshold))
        wall_below = math.sin(math.radians(threshold))
        for _ in range(5):
            matrix = np.zeros((3, 3))
            used = 0
            for normal in valid:
                alignment = abs(float(np.dot(normal, y)))
                if alignment < wall_below:
                    matrix += np.outer(normal, normal)
                    used += 1
                elif alignment > floor_above:
                    # "elif" loses nothing: at 45 and at 15 degrees no normal can pass both tests. (At 45
                    # degrees the two bounds are the same number up to rounding.)
                    matrix -= np.outer(normal, normal)
                    used += 1
            if used == 0:
                continue  # left open by the facts: M = 0 prefers no direction, so y stays
            _, vectors = np.linalg.eigh(matrix)  # eigenvalues come in rising order
            newest = vectors[:, 0]
            # The facts want a positive product. A product of exactly 0 is left open: keep eigh's sign.
            if np.dot(newest, y) < 0.0:
                newest = -newest
            y = newest / math.sqrt(float(np.dot(newest, newest)))
    return y


def rotation_to(down):
    """Step 6: the 3 x 3 rotation that takes (0, 1, 0) to `down`."""
    start = np.array([0.0, 1.0, 0.0])
    cosine = min(max(float(np.dot(start, down)), -1.0), 1.0)
    turn = math.acos(cosine)
    if math.degrees(turn) <= 0.1:
        return np.eye(3)
    # The cross product (0, 1, 0) x down, by its definition.
    axis = np.array([down[2], 0.0, -down[0]])
    length = math.sqrt(float(np.dot(axis, axis)))
    if length == 0.0:
        # Exactly opposite: left open by the facts. Any axis across will do; h is the same for all of them.
        axis, length = np.array([1.0, 0.0, 0.0]), 1.0
    kx, ky, kz = axis / length
    cross = np.array([[0.0, -kz, ky], [kz, 0.0, -kx], [-ky, kx, 0.0]])
    # Rodrigues: I + sin K + (1 - cos) K K.
    return np.eye(3) + math.sin(turn) * cross + (1.0 - math.cos(turn)) * (cross @ cross)


def heights(points, down):
    """Steps 6 and 7: centimetres above the floor, for every pixel, from the in-painted points."""
    back = rotation_to(down).T
    rows, columns = points.shape[:2]
    height = np.zeros((rows, columns))
    for r in range(rows):
        for c in range(columns):
            rotated = back @ points[r, c]
            height[r, c] = -rotated[1]
    lowest = float(height.min())  # the 0th percentile, over all pixels
    if lowest > -90.0:
        lowest = -130.0
    return height - lowest


def angles(normals, down):
    """Step 8: degrees between the unrotated R = 3 normal and gravity.

    The rotation's 0.1 degree rule has no part in this: the angle uses y itself.
    """
    rows, columns = normals.shape[:2]
    angle = np.zeros((rows, columns))
    for r in range(rows):
        for c in range(columns):
            n = normals[r, c]
            cosine = float(n[0] * down[0] + n[1] * down[1] + n[2] * down[2])
            if math.isnan(cosine):
                cosine = -1.0  # no normal: 180 degrees, and so 218 in the picture
            cosine = min(max(cosine, -1.0), 1.0)
            angle[r, c] = math.degrees(math.acos(cosine))
    return angle


def matlab_uint8(value):
    """Step 9: MATLAB's cast. Nearest whole number, halves away from zero, then held to 0..255."""
    value = float(value)
    whole = math.floor(abs(value))
    # Compare the fraction: adding 0.5 first would round 0.49999999999999994 up.
    if abs(value) - whole >= 0.5:
        whole += 1
    if value < 0.0:
        whole = -whole
    return min(max(whole, 0), 255)
