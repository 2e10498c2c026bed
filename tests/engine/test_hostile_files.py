"""Files made to do harm, or merely broken: each refusal names the file, the place, what was found and the rule."""

import resource
import sys

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
"""


def varint(value):
    out = b""
    value %= 2**64
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def chunk(number, payload, claimed=None):
    """A field with a length, which may be claimed to be another."""
    return varint(number << 3 | 2) + varint(len(payload) if claimed is None else claimed) + payload


def number(field, value):
    return varint(field << 3) + varint(value)


def model(*blobs, name=b"fc"):
    """A caffemodel with one layer of these BlobProtos."""
    return chunk(100, chunk(1, name) + b"".join(chunk(7, blob) for blob in blobs))


def shape(*dims):
    return chunk(7, chunk(1, b"".join(map(varint, dims))))


FLOATS = chunk(5, np.ones(8, np.float32).tobytes())
BIAS = chunk(5, np.ones(2, np.float32).tobytes()) + shape(2)
GOOD = FLOATS + shape(2, 4)

MODELS = [
    ("empty", b"", "the file is empty"),
    ("truncated in the numbers", model(GOOD, BIAS)[:-20], "so it is truncated"),
    ("truncated in a tag", model(GOOD, BIAS) + b"\xa2", "ends in the middle of a number"),
    ("length of 2 GiB", chunk(100, chunk(1, b"fc"), claimed=2**31), "runs past its end"),
    ("length of 2^64 - 1", chunk(100, chunk(1, b"fc"), claimed=2**64 - 1), "runs past its end"),
    (
        "a blob longer than its layer",
        chunk(100, chunk(7, GOOD, claimed=99)) + b"\0" * 200,
        "runs past its end",
    ),
    (
        "numbers longer than their blob",
        model(chunk(5, b"\0" * 8, claimed=80) + shape(2, 4), BIAS),
        "runs past its end",
    ),
    (
        "numbers of 2 GiB claimed",
        model(chunk(5, b"", claimed=2**31) + shape(2**29), BIAS),
        "runs past its end",
    ),
    ("half a number", model(chunk(5, b"\0" * 31) + shape(2, 4), BIAS), "not a multiple of 4"),
    ("a varint of 11 bytes", b"\xa2\x06" + b"\xff" * 10 + b"\x01", "over 10 bytes"),
    ("field 0", model(GOOD, BIAS) + b"\x00\x01", "field has number 0"),
    ("groups", b"\x1b" * 10000, "wire type 3"),
    ("negative dim", model(FLOATS + shape(2, -4), BIAS), r"a blob of shape \(2, -4\)"),
    ("dims whose product overflows", model(FLOATS + shape(2**33, 2**33), BIAS), "a blob of shape"),
    ("dims whose product is 0 in 64 bits", model(FLOATS + shape(2**32, 2**32), BIAS), "a blob of shape"),
    (
        "more values than the shape",
        model(FLOATS + shape(2, 3), BIAS),
        r"\(2, 3\) should hold 6 values, it holds 8",
    ),
    (
        "fewer values than the shape",
        model(FLOATS + shape(2, 5), BIAS),
        r"\(2, 5\) should hold 10 values, it holds 8",
    ),
    ("legacy dims against the values", model(FLOATS + number(1, 2) + number(2, 5), BIAS), "it holds 8"),
    ("negative legacy dim", model(FLOATS + number(1, -1) + number(2, -8), BIAS), "a blob of shape"),
    ("fewer diffs than values", model(GOOD + chunk(6, b"\0" * 4), BIAS), "8 values but 1 diffs"),
    ("33 axes", model(FLOATS + shape(*[1] * 33), BIAS), "more than 32 axes"),
    ("numbers as a varint", model(number(5, 1) + shape(1), BIAS), "field 5 of a blob has wire type 0"),
    (
        "a shape of another net",
        model(FLOATS + shape(4, 2), BIAS),
        "shape mismatch.  Source param shape is 4 2",
    ),
    (
        "one blob of two",
        model(GOOD),
        "Incompatible number of blobs for layer fc: 1 in the file, 2 in the net",
    ),
    ("no layers", chunk(1, b"name") + number(7, 1), "it has no layers"),
    ("layers without end", chunk(100, b"") * 100_000, "more than 32768 layers and blobs"),
    ("blobs without end", chunk(100, chunk(7, b"") * 100_000), "should hold|more than 32768"),
    ("fields without end", chunk(100, number(10, 1) * 600_000), "more than 524288 fields"),
    ("a net, no weights", NET.encode(), "looks like text, a net without weights"),
    ("neither text nor weights", b"\xff\xfe\0\x01" * 50, "not a readable caffemodel"),
]


@pytest.mark.parametrize(("content", "words"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])
def test_models(make_net, tmp_path, content, words):
    net = make_net(NET)
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        net.copy_from(str(path))
    assert "bad.caffemodel" in str(caught.value)
    assert not net.params["fc"][0].data.any()  # nothing of it was loaded
    for read in (caffe.caffemodel.shapes, lambda path: caffe.Net(path, caffe.TEST)):
        try:
            read(str(path))
        except caffe.CaffeError:
            pass


def test_the_good_model_of_this_table_loads(make_net, tmp_path):
    net = make_net(NET)
    path = tmp_path / "good.caffemodel"
    for content in (model(GOOD, BIAS), model(GOOD, BIAS) * 2, model(name=b"other") + model(GOOD, BIAS)):
        path.write_bytes(content)  # where a layer's name comes twice, the later one counts
        net.copy_from(str(path))
        assert (net.params["fc"][0].data == 1).all()


def relu(name, bottom, top):
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top}" }}'


def input_of(dims):
    return f'layer {{ name: "a" type: "Input" top: "a" input_param {{ shape {{ {dims} }} }} }}'


NETS = [
    ("missing", None, "Could not open file"),
    ("a cycle", relu("a", "b", "a") + relu("b", "a", "b"), r"Unknown bottom blob 'b' \(layer 'a'"),
    ("a bottom that nobody makes", relu("a", "x", "a"), "Unknown bottom blob 'x'"),
    ("a layer that is its own bottom", relu("a", "a", "a"), "Unknown bottom blob 'a'"),
    ("two makers of one blob", NET + relu("x", "data", "fc"), "produced by multiple sources"),
    ("an unknown field", "layer { naem: 'a' }", '1:9 .*no field named "naem".*did you mean name'),
    ("an unknown type", "layer { name: 'a' type: 'Nosuch' }", "layer 'a'.*Unknown layer type: Nosuch"),
    ("an unclosed brace", "layer {", "Failed to parse NetParameter file"),
    ("deep nesting of what is no message", "layer {" * 5000, "Failed to parse NetParameter file"),
    ("deep brackets", "[" * 5000, "Failed to parse NetParameter file"),
    ("a number for a name", "name: 5", "1:7"),
    ("a number that is none", "input_dim: 12345678901234567890", "1:12"),
    (
        "a byte that is not UTF-8",
        b"name: 'ok'\nlayer {\n  name: 'caf\xe9' }",
        r"3:13 : byte 0xe9 is not UTF-8",
    ),
    ("UTF-16", "name: 'x'".encode("utf-16"), "neither text nor binary"),
    ("a size over the limit", input_of("dim: 65536 dim: 65536"), r"layer 'a' \(Input\).*exceeds INT_MAX"),
    (
        "a stride beyond any image",
        input_of("dim: 1 dim: 1 dim: 4 dim: 4")
        + 'layer { name: "p" type: "Pooling" bottom: "a" top: "p" '
        + "pooling_param { kernel_size: 2 stride: 2000000000 } }",
        r"layer 'p' \(Pooling\).*windows reach over 2000000002x2000000002 pixels",
    ),
    ("a negative size", input_of("dim: -1"), "at least 0"),
    (
        "weights over the limit",
        NET.replace("num_output: 2", "num_output: 4294967295"),
        "layer 'fc'.*exceeds INT_MAX",
    ),
    (
        "a number too large for its field",
        NET.replace("num_output: 2", "num_output: 4294967296"),
        r":3:\d+ ",
    ),
    (
        "input_dim of three",
        "input: 'a' input_dim: 1 input_dim: 2 input_dim: 3",
        "Must specify 4 input_dim per input",
    ),
    ("both forms of input", "input: 'a' input_dim: [1,1,1,1] input_shape { dim: 1 }", "not both"),
    ("weights as the net", b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "it is an HDF5 file"),
    ("noise", bytes(range(256)) * 4, "neither text nor binary"),
]


@pytest.mark.parametrize(("content", "words"), [row[1:] for row in NETS], ids=[row[0] for row in NETS])
def test_nets(tmp_path, content, words):
    path = tmp_path / "bad.prototxt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        caffe.Net(str(path), caffe.TEST)
    assert "bad.prototxt" in str(caught.value)


def test_parts_that_nothing_connects_are_a_net(make_net):
    net = make_net(NET + NET.replace('"data"', '"data2"').replace('"fc"', '"fc2"'))
    assert net.outputs == ["fc", "fc2"] and set(net.forward()) == {"fc", "fc2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"base_lr: 1 bas_lr: 2", "did you mean base_lr"),
        (b"base_lr: 'high'", "bad.prototxt:1:10"),
        (b"solver_type: ADAM type: 'SGD'", "Failed to upgrade solver"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file, which holds weights"),
        (b"\x00\x01\x02", "neither text nor a binary SolverParameter"),
        (b"\xca\x3e\x02\x01\x02", "neither text nor|no field of a SolverParameter"),
        (b"base_lr: 1\xff", "1:11 : byte 0xff is not UTF-8"),
    ],
)
def test_solvers(tmp_path, content, words):
    path = tmp_path / "bad.prototxt"
    path.write_bytes(content)
    with pytest.raises(caffe.CaffeError, match=words) as caught:
        caffe.get_solver(str(path))
    assert "bad.prototxt" in str(caught.value)


STATE = caffe_pb2.SolverState(iter=3).SerializeToString()
HISTORY = chunk(3, GOOD) + chunk(3, BIAS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not say the iteration"),
        (HISTORY, "does not say the iteration"),
        (STATE, "Incorrect length of history blobs: 0 in the file, 2 needed"),
        (STATE + HISTORY[:-3], "truncated"),
        (STATE + chunk(3, BIAS) + chunk(3, GOOD), "history blob 0 has shape"),
        (STATE + HISTORY + chunk(2, b"gone.caffemodel"), "Could not open file .*gone"),
        (STATE + HISTORY + chunk(2, b"\0nul"), "Could not open file"),
        (STATE + HISTORY + chunk(2, b"\xff\xfe"), "not UTF-8"),
        (STATE + HISTORY + chunk(2, b"net.prototxt"), "Could not open file|looks like text"),
        (number(1, -5) + HISTORY, "iter -5 and current_step 0 should be at least 0"),
        (STATE + HISTORY + chunk(1000, chunk(1, varint(1) * 624) + number(2, 70000)), "random generator"),
        (b"iter: 'x'", "Failed to parse SolverState"),
        (NET.encode(), "Failed to parse SolverState"),
    ],
)
def test_states(make_solver, tmp_path, content, words):
    solver = make_solver(NET, "base_lr: 1 lr_policy: 'fixed'")
    path = tmp_path / "bad.solverstate"
    path.write_bytes(content)
    with pytest.raises(caffe.CaffeError, match=words):
        solver.restore(str(path))
    assert solver.iter == 0
    path.write_bytes(STATE + HISTORY)
    solver.restore(str(path))
    assert solver.iter == 3 and (solver.history[0].data == 1).all()


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files")
def test_a_file_of_3_gib_is_walked_without_being_read(make_net, tmp_path):
    path = tmp_path / "huge.caffemodel"
    with open(path, "wb") as file:
        size = 3 << 30
        blob = varint(5 << 3 | 2) + varint(size)
        body = chunk(1, b"fc") + varint(7 << 3 | 2) + varint(len(blob) + size) + blob
        file.write(varint(100 << 3 | 2) + varint(len(body) + size) + body)
        file.truncate(file.tell() + size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(caffe.CaffeError, match="should hold 1 values, it holds 805306368"):
        make_net(NET).copy_from(path)
    with pytest.raises(caffe.CaffeError, match="should hold 1 values"):
        caffe.caffemodel.shapes(path)
    with pytest.raises(caffe.CaffeError, match="layer 'fc': Unknown layer type"):
        caffe.Net(str(path), caffe.TEST)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
