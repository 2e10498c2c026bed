"""Spans against what really happens: cells marked one by one, and one-dimensional nets with random weights."""

import torch
import torch.nn.functional as F
from caffe.fast.chain import Link, follow, needs
from caffe.fast.spans import Span, Window, blank_length, sources
from hypothesis import assume, given, settings
from hypothesis import strategies as st

many = settings(max_examples=400, deadline=None, derandomize=True, database=None)


def window(extent, stride, pad, up):
    """A window that is rounded down as convolutions are, or up as poolings are."""
    if up:
        return Window(extent, stride, 0, lambda length: -(-(length - extent) // stride) + 1)
    return Window(extent, stride, pad, lambda length: (length + 2 * pad - extent) // stride + 1)


# a pooling rounded up has no padding, and its windows leave nothing out
convolutions = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(0, 6), st.just(False))
poolings = st.tuples(st.integers(2, 3), st.integers(1, 2), st.just(0), st.booleans())
chains = st.lists(convolutions | poolings, max_size=5).map(lambda sizes: [window(*each) for each in sizes])
# for the image: how many cells of padding before and behind, and its own
places = st.tuples(st.integers(0, 30), st.integers(1, 25), st.integers(0, 30))


def linked(windows):
    return [Link(0, 0, None, (each, each)) for each in windows]


def spans_of(windows, length, image=(0, 0)):
    return follow(linked(windows), 0, Span(length, image))


def marked(windows, length, image):
    """For every map, a list with the set of marks of each cell: whose window met the image, or left the map."""
    maps = [[{"image"} if image[0] <= i < image[1] else set() for i in range(length)]]
    for each in windows:
        below, above = maps[-1], []
        for i in range(each.count(len(below))):
            marks = set()
            for j in range(i * each.stride - each.pad, i * each.stride - each.pad + each.extent):
                marks |= {"before"} if j < 0 else {"behind"} if j >= len(below) else below[j]
            above.append(marks)
        maps.append(above)
    return maps


def having(mark, cells):
    return [i for i, marks in enumerate(cells) if mark in marks]


@many
@given(chains, places)
def test_what_depends_on_the_image_or_the_frame_is_what_windows_reach(windows, place):
    before, own, _ = place
    length, image = sum(place), (before, before + own)
    spans = spans_of(windows, length, image)
    assume(min(span.size for span in spans) > 0)
    gapless = True
    for each, span, cells in zip([None, *windows], spans, marked(windows, length, image), strict=True):
        gapless = gapless and (each is None or each.extent >= each.stride)
        size = len(cells)
        found = {mark: having(mark, cells) for mark in ("image", "before", "behind")}
        claimed = {
            "image": list(range(*span.image)),
            "before": list(range(span.before)),
            "behind": list(range(size - span.behind, size)),
        }
        assert span.size == size
        for mark, cells_found in found.items():
            assert set(cells_found) <= set(claimed[mark]), mark
            assert not gapless or cells_found == claimed[mark], f"{mark}: more than needed"


@many
@given(chains, st.integers(1, 80), st.data())
def test_the_cells_needed_are_those_that_windows_read(windows, length, data):
    spans = spans_of(windows, length)
    assume(min(span.size for span in spans) > 0)
    first = data.draw(st.integers(0, spans[-1].size - 1))
    end = data.draw(st.integers(first + 1, spans[-1].size))
    intervals = needs(linked(windows), 0, spans, (first, end))
    assert intervals[-1] == (first, end)
    read = set(range(first, end))
    for number, each in reversed(list(enumerate(windows))):
        reached = {i * each.stride - each.pad + k for i in read for k in range(each.extent)}
        read = reached & set(range(spans[number].size))
        assume(read)  # a window may lie wholly in the padding
        needed = range(*intervals[number])
        assert read <= set(needed)
        if all(each.extent >= each.stride for each in windows[number:]):
            assert sorted(read) == list(needed), "more than needed"


def step_of(windows):
    step = 1
    for each in windows:
        step *= each.stride
    return step


def works(windows, length):
    """Has every map over a blank image of ``length`` a cell that no padding reaches?"""
    maps = marked(windows, length, (0, 0))
    return all(any(not marks for marks in cells) for cells in maps)


@many
@given(chains, st.integers(1, 120))
def test_the_blank_image_is_the_shortest_that_shows_both_ends_and_a_cell_between(windows, length):
    step = step_of(windows)
    shorter = [n for n in range(1, length) if (length - n) % step == 0]
    found = blank_length(length, step, lambda n: spans_of(windows, n))
    working = [n for n in shorter if works(windows, n)]
    if all(each.extent >= each.stride for each in windows):
        assert found == (working[0] if working else None)
    else:  # cells between the windows may be counted as read
        assert found is None or found in working


def run(windows, image, seed):
    """The maps of a net of one axis and four channels over ``image``, with weights drawn from ``seed``."""
    random = torch.Generator().manual_seed(seed)
    maps = [image]
    for each in windows:
        x = maps[-1]
        behind = (each.count(x.shape[-1]) - 1) * each.stride - each.pad + each.extent - x.shape[-1]
        x = F.pad(x, (each.pad, 0))
        x = F.pad(x, (0, behind)) if behind > 0 else x
        weight = torch.randn(4, 4, each.extent, dtype=torch.float64, generator=random)
        bias = torch.randn(4, dtype=torch.float64, generator=random)
        maps.append((F.conv1d(x, weight, bias, each.stride) / each.extent).tanh())
    return maps


def picked_cells(span, blank, wanted):
    """For each of the cells ``wanted``, its equal in the blank image's map."""
    picked = []
    for (first, end), (begin, stop) in sources(span, blank, wanted):
        assert len(picked) == first - wanted[0], "no cell is left out"
        assert stop - begin in (1, end - first)
        picked += range(begin, stop) if stop - begin == end - first else [begin] * (end - first)
    return picked


@many
@given(chains, places, st.integers(0, 99))
def test_the_picked_cells_of_the_blank_image_are_those_of_the_whole(windows, place, seed):
    before, own, _ = place
    length = sum(place)
    blank = blank_length(length, step_of(windows), lambda n: spans_of(windows, n))
    spans = spans_of(windows, length, (before, before + own))
    assume(blank is not None and min(span.size for span in spans) > 0)
    image = torch.zeros(1, 4, length, dtype=torch.float64)
    image[..., before : before + own] = torch.linspace(-1, 2, own, dtype=torch.float64)
    whole = run(windows, image, seed)
    small = run(windows, torch.zeros(1, 4, blank, dtype=torch.float64), seed)
    maps = zip(spans, spans_of(windows, blank), whole, small, strict=True)
    for span, blank_span, large_map, small_map in maps:
        first, end = span.image
        outside = [i for i in range(span.size) if not first <= i < end]
        picked = picked_cells(span, blank_span, (0, span.size))
        assert max(picked) < blank_span.size and min(picked) >= 0
        expected = small_map[..., picked][..., outside]
        assert torch.allclose(large_map[..., outside], expected, rtol=0, atol=1e-12)


def test_of_a_part_the_picked_cells_are_that_part_of_all():
    windows = [window(3, 1, 1, False), window(2, 2, 0, True)]
    span, blank = spans_of(windows, 60, (20, 40))[-1], spans_of(windows, 14)[-1]
    assert picked_cells(span, blank, (5, 25)) == picked_cells(span, blank, (0, span.size))[5:25]
    assert picked_cells(span, blank, (7, 7)) == []
