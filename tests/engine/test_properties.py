"""Any options of a layer: refused by CaffeError when the net is built, or run both ways with the shapes promised."""

import math

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

few = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


def mostly(good, other):
    """Draws from ``good``, sometimes from ``other``."""
    return st.sampled_from([good] * 9 + [other]).flatmap(lambda chosen: chosen)


def maybe(values):
    """Not set as often as not."""
    return st.none() | values


def merged(*parts):
    """One dictionary of those that the strategies ``parts`` draw."""
    return st.tuples(*parts).map(
        lambda drawn: {name: value for part in drawn for name, value in part.items()}
    )


some = mostly(st.integers(1, 4), st.just(0))
image = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))
any_shape = mostly(
    st.lists(st.integers(1, 4), min_size=2, max_size=5), st.lists(st.integers(0, 2), max_size=2)
).map(tuple)
axis = mostly(st.integers(0, 1), st.integers(-4, 5))


def run(kind, shapes, tops=1, **params):
    """The net of one layer after a forward and a backward, or None where it is refused, in the layer's name."""
    param = caffe_pb2.NetParameter(force_backward=True)
    bottoms = [f"x{i}" for i in range(len(shapes))]
    for name, shape in zip(bottoms, shapes, strict=True):
        made = param.layer.add(name=name, type="Input", top=[name])
        made.input_param.shape.add().dim.extend(shape)
    layer = param.layer.add(name="it", type=kind, bottom=bottoms, top=[f"y{i}" for i in range(tops)])
    for name, value in params.items():
        if value is not None:
            getattr(layer, name).CopyFrom(value)
    try:
        net = caffe.Net.from_param(param, "drawn", caffe.TRAIN)
    except caffe.CaffeError as error:
        assert "layer 'it'" in str(error) and "drawn" in str(error), str(error)
        return None
    random = np.random.RandomState(0)
    for name in bottoms:
        net.blobs[name].data[...] = random.standard_normal(net.blobs[name].shape)
    for blob in net.params.get("it", ()):
        blob.data[...] = random.standard_normal(blob.shape)
    net.forward()
    for name in layer.top:
        net.blobs[name].diff[...] = 1
    net.backward()
    for name in bottoms:
        assert net.blobs[name].diff.shape == net.blobs[name].shape == shapes[bottoms.index(name)]
    for blob in [*net.blobs.values(), *net.params.get("it", ())]:
        assert blob.data.shape == blob.diff.shape == blob.shape
        assert np.isfinite(blob.data).all() and np.isfinite(blob.diff).all()
    return net


def message(kind, **fields):
    """A message with those fields that are not None."""
    return getattr(caffe_pb2, kind)(**{name: value for name, value in fields.items() if value is not None})


def per_axis(name, values, least):
    """A field given once, per axis, as _h and _w, or wrongly often; ``least`` is 0 where it may be left out."""
    prefix = name.removesuffix("_size")
    plain = mostly(st.lists(values, min_size=least, max_size=2), st.lists(values, max_size=4))
    pair = st.tuples(values, values).map(lambda sizes: {f"{prefix}_h": sizes[0], f"{prefix}_w": sizes[1]})
    return mostly(plain.map(lambda sizes: {name: sizes}), pair)


def axis_sizes(fields, name, default):
    """The two numbers that a field of the drawn options means."""
    prefix = name.removesuffix("_size")
    if f"{prefix}_h" in fields:
        return fields[f"{prefix}_h"], fields[f"{prefix}_w"]
    given = fields.get(name) or [default]
    return (given * 2)[:2] if len(given) == 1 else given


filters = merged(
    per_axis("kernel_size", some, 1),
    per_axis("stride", some, 0),
    per_axis("pad", st.integers(0, 2), 0),
    mostly(st.just([]), st.lists(st.integers(0, 3), max_size=3)).map(lambda sizes: {"dilation": sizes}),
    st.fixed_dictionaries(
        {
            "num_output": mostly(st.sampled_from([2, 4, 6]), st.integers(0, 6)),
            "bias_term": st.booleans(),
            "group": mostly(st.just(1), st.integers(0, 3)),
        }
    ),
)


@few
@given(image, filters, st.sampled_from(["Convolution", "Deconvolution"]))
def test_filters(shape, fields, kind):
    net = run(kind, [shape], convolution_param=message("ConvolutionParameter", **fields))
    if net is None:
        return
    sizes = []
    for i in (0, 1):
        kernel, stride, pad, dilation = (
            axis_sizes(fields, name, default)[i]
            for name, default in (("kernel_size", 0), ("stride", 1), ("pad", 0), ("dilation", 1))
        )
        extent = dilation * (kernel - 1) + 1
        if kind == "Convolution":
            sizes.append(math.trunc((shape[i + 2] + 2 * pad - extent) / stride) + 1)
        else:
            sizes.append(stride * (shape[i + 2] - 1) + extent - 2 * pad)
    assert net.blobs["y0"].shape == (shape[0], fields["num_output"], *sizes)
    assert len(net.params["it"]) == 1 + fields["bias_term"]


pools = merged(
    mostly(
        mostly(
            st.fixed_dictionaries({"kernel_size": some}),
            st.fixed_dictionaries({"kernel_h": some, "kernel_w": some}),
        ),
        st.fixed_dictionaries(
            {"kernel_size": maybe(some), "kernel_h": maybe(some), "global_pooling": st.booleans()}
        ),
    ),
    mostly(
        st.fixed_dictionaries({"stride": maybe(some)}),
        st.fixed_dictionaries({"stride_h": maybe(some), "stride_w": some}),
    ),
    st.fixed_dictionaries(
        {
            "pool": st.sampled_from([0, 1]),
            "pad": maybe(st.integers(0, 2)),
            "round_mode": maybe(st.sampled_from([0, 1])),
        }
    ),
)


@few
@given(image, pools, st.integers(1, 2))
def test_pooling(shape, fields, tops):
    net = run("Pooling", [shape], tops, pooling_param=message("PoolingParameter", **fields))
    if net is None:
        return
    sizes = []
    chosen = fields.get
    for length, side in ((shape[2], "h"), (shape[3], "w")):
        kernel = length if chosen("global_pooling") else chosen("kernel_size") or chosen(f"kernel_{side}")
        stride = chosen("stride") or chosen(f"stride_{side}") or 1
        pad = chosen("pad") or 0
        rounded = math.floor if chosen("round_mode") == 1 else math.ceil
        size = rounded((length + 2 * pad - kernel) / stride) + 1
        if pad and (size - 1) * stride >= length + pad:
            size -= 1
        sizes.append(size)
    for i in range(tops):
        assert net.blobs[f"y{i}"].shape == (*shape[:2], *sizes)


@few
@given(any_shape, some, st.booleans(), st.booleans(), maybe(axis))
def test_inner_product(shape, outputs, bias, transpose, start):
    options = message(
        "InnerProductParameter", num_output=outputs, bias_term=bias, transpose=transpose, axis=start
    )
    net = run("InnerProduct", [shape], inner_product_param=options)
    if net is None:
        return
    start = (1 if start is None else start) % len(shape)
    length = math.prod(shape[start:])
    assert net.blobs["y0"].shape == (*shape[:start], outputs)
    assert net.params["it"][0].shape == ((length, outputs) if transpose else (outputs, length))


@few
@given(any_shape, st.lists(st.integers(0, 4), min_size=1, max_size=3), maybe(axis), mostly(st.none(), some))
def test_concat(shape, lengths, along, dim):
    place = (dim if dim is not None else 1 if along is None else along) % max(len(shape), 1)
    shapes = [(*shape[:place], length, *shape[place + 1 :]) for length in lengths]
    net = run("Concat", shapes, concat_param=message("ConcatParameter", axis=along, concat_dim=dim))
    if net is not None:
        assert net.blobs["y0"].shape == (*shapes[0][:place], sum(lengths), *shapes[0][place + 1 :])


@few
@given(
    any_shape,
    st.lists(st.integers(1, 3), max_size=3, unique=True).map(sorted),
    mostly(st.just(1), st.integers(0, 3)),
    maybe(axis),
)
def test_slice(shape, points, more, along):
    tops = len(points) + more
    assume(tops)
    net = run("Slice", [shape], tops, slice_param=message("SliceParameter", axis=along, slice_point=points))
    if net is None:
        return
    place = (1 if along is None else along) % len(shape)
    ends = [*points, shape[place]] if points else [shape[place] // tops * (i + 1) for i in range(tops)]
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert sum(lengths) == shape[place]
    for i, length in enumerate(lengths):
        assert net.blobs[f"y{i}"].shape == (*shape[:place], length, *shape[place + 1 :])


@few
@given(
    any_shape,
    mostly(st.integers(2, 3), st.just(1)),
    st.integers(0, 2),
    mostly(st.just([]), st.lists(st.floats(-2, 2), max_size=3)),
    mostly(st.none(), any_shape),
)
def test_eltwise(shape, count, operation, coefficients, other):
    shapes = [shape] * count + ([other] if other is not None else [])
    options = message("EltwiseParameter", operation=operation, coeff=coefficients)
    net = run("Eltwise", shapes, eltwise_param=options)
    if net is not None:
        assert net.blobs["y0"].shape == shape and all(each == shape for each in shapes)


@few
@given(
    any_shape,
    mostly(st.lists(st.sampled_from([0, -1, 1, 2]), max_size=4), st.lists(st.integers(-2, 4), max_size=4)),
    maybe(mostly(st.integers(0, 2), st.integers(-4, 4))),
    mostly(st.none(), st.integers(-2, 4)),
)
def test_reshape(shape, dims, start, count):
    assume(0 not in shape)
    options = message("ReshapeParameter", axis=start, num_axes=count)
    options.shape.dim.extend(dims)
    net = run("Reshape", [shape], reshape_param=options)
    if net is None:
        return
    start = (start or 0) + (len(shape) + 1 if (start or 0) < 0 else 0)
    end = len(shape) if count in (None, -1) else start + count
    middle = [shape[start + i] if size == 0 else size for i, size in enumerate(dims)]
    if -1 in middle:
        rest = math.prod(shape[:start]) * math.prod(shape[end:]) * -math.prod(middle)
        middle[middle.index(-1)] = math.prod(shape) // rest
    assert net.blobs["y0"].shape == (*shape[:start], *middle, *shape[end:])
    assert math.prod(net.blobs["y0"].shape) == math.prod(shape)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_the_check_itself_would_fail(kind):
    """Good options run, bad ones are refused, and a wrong promise is noticed."""
    options = caffe_pb2.ConvolutionParameter(num_output=2, kernel_size=[3], stride=[2], pad=[1])
    net = run(kind, [(1, 2, 5, 7)], convolution_param=options)
    assert net.blobs["y0"].shape == ((1, 2, 3, 4) if kind == "Convolution" else (1, 2, 9, 13))
    options.stride[0] = 0
    assert run(kind, [(1, 2, 5, 7)], convolution_param=options) is None
