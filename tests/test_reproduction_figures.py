"""Figures 4, 5 and 6."""

import numpy as np
import pytest
from PIL import Image

import vis
from reproduction import figures

NAMES = ["background", "aeroplane", "bicycle"]


def scene(height=30, width=40):
    truth = np.zeros((height, width), np.uint8)
    truth[:, width // 2 :] = 1
    truth[:3] = vis.VOID
    return np.full((height, width, 3), (10, 200, 30), np.uint8), truth, [np.full_like(truth, 2), truth]


def share(picture, color):
    """The share of a picture's pixels that have a colour, nearly."""
    return np.mean(np.abs(picture.astype(int) - color).max(2) < 8)


def test_comparison_shows_photographs_nets_and_truth(tmp_path):
    png, pdf = figures.comparison(
        tmp_path / "figure4", [scene(), scene(44, 40)], ["FCN-32s", "FCN-8s"], NAMES
    )
    assert (png.name, pdf.name) == ("figure4.png", "figure4.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    picture = np.asarray(Image.open(png).convert("RGB"))
    height, width = picture.shape[:2]
    columns = [picture[:, i * width // 4 : (i + 1) * width // 4] for i in range(4)]
    palette = vis.make_palette(3)
    assert share(columns[0], (10, 200, 30)) > 0.5
    assert share(columns[1], palette[2]) > 0.5
    for column in columns[2:]:  # a net that is right, and the truth
        assert 0.2 < share(column, palette[1]) < 0.5
    assert share(picture[-height // 6 :], palette[2]) > 0  # the legend
    # the titles are above the pictures
    assert share(picture[: height // 20], (0, 0, 0)) > 0.001


def test_equal_content_gives_equal_bytes(tmp_path):
    curves = {"full images": [(np.arange(1, 9), np.arange(8.0), np.arange(8)[::-1])]}
    for make in (
        lambda stem: figures.comparison(stem, [scene()], ["FCN-32s", "FCN-8s"], NAMES),
        lambda stem: figures.convergence(stem, curves),
    ):
        a, b = ([path.read_bytes() for path in make(tmp_path / name)] for name in ("a", "b"))
        assert a == b


def axes_of(monkeypatch, stem, curves):
    """The two panels of the figure of ``curves``."""
    kept = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda figure, stem: kept.append(figure) or save(figure, stem))
    paths = figures.convergence(stem, curves)
    assert all(path.stat().st_size > 1000 for path in paths)
    return kept[0].axes


def test_convergence_by_iterations_and_by_wall_time(tmp_path, monkeypatch):
    steps, random = np.arange(10, 1010, 10), np.random.default_rng(0)
    curves = {
        label: [
            (steps, steps * slow * seed, np.exp(-steps / 300) + random.normal(0, 0.05, len(steps)))
            for seed in (0.9, 1.1)
        ]
        for label, slow in (("full images", 1), ("50% sampling", 2), ("25% sampling", 4))
    }
    left, right = axes_of(monkeypatch, tmp_path / "figure5", curves)
    assert [text.get_text() for text in left.get_legend().get_texts()] == list(curves)
    assert left.get_ylabel() == "loss per pixel" and "iterations" in left.get_xlabel()
    for panel, ends in ((left, (1000, 1000, 1000)), (right, (1, 2, 4))):
        assert len(panel.lines) == 6  # raw and smooth of each
        for raw, smooth, end, seeds in zip(
            panel.lines[::2], panel.lines[1::2], ends, curves.values(), strict=True
        ):
            assert raw.get_alpha() < 0.5
            assert raw.get_xdata()[-1] == smooth.get_xdata()[-1] == pytest.approx(end)
            np.testing.assert_allclose(raw.get_ydata(), np.mean([seed[2] for seed in seeds], axis=0))
            assert np.abs(np.diff(smooth.get_ydata())).mean() < np.abs(np.diff(raw.get_ydata())).mean() / 3
    assert right.get_xlim() == (0, 1)


def test_seeds_of_unequal_length_end_with_the_shortest(tmp_path, monkeypatch):
    curves = {"full images": [([1, 2, 3], [1, 2, 3], [4, 3, 2]), ([1, 2], [3, 4], [2, 1])]}
    left, _ = axes_of(monkeypatch, tmp_path / "figure5", curves)
    assert left.lines[0].get_ydata().tolist() == [3, 2]


def test_smoothing_keeps_lines_and_ends():
    line = np.linspace(5, 1, 40)
    np.testing.assert_allclose(figures.smoothed(line), line)
    assert figures.smoothed(np.array([2.0])) == [2]
    spike = np.zeros(60)
    spike[30] = 7
    np.testing.assert_allclose(figures.smoothed(spike)[27:34], 1)  # three on each side
