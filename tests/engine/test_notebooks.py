"""What the notebooks of Caffe's documentation do with pycaffe, on synthetic data: the same calls in our own words."""

import ast

import caffe
import h5py
import lmdb
import numpy as np
import pytest
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from PIL import Image

CLASSES, SIDE = 4, 12


def pictures(count, seed, channels=1):
    """uint8 images N×C×SIDE×SIDE of one random pattern of blocks for each class, with noise, and their labels."""
    pattern = np.kron(
        np.random.RandomState(7).rand(CLASSES, channels, 3, 3) > 0.5, np.ones((SIDE // 3, SIDE // 3))
    )
    random = np.random.RandomState(seed)
    labels = random.randint(0, CLASSES, count)
    return (pattern[labels] * 120 + random.randint(0, 120, (count, channels, SIDE, SIDE))).astype(
        np.uint8
    ), labels


def write_lmdb(path, images, labels):
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as transaction:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            transaction.put(f"{i:08d}".encode(), caffe.io.array_to_datum(image, label).SerializeToString())
    return str(path)


def write(path, text):
    path.write_text(str(text))
    return str(path)


def solver_message(train, tests=(), **fields):
    """A SolverParameter as the notebooks write it."""
    message = caffe_pb2.SolverParameter(train_net=train, base_lr=0.05, momentum=0.9, lr_policy="fixed")
    message.random_seed = 0xCAFFE
    for test in tests:
        message.test_net.append(test)
        message.test_iter.append(2)
        message.test_interval = 1000000
    message.max_iter = 40
    message.snapshot_after_train = False
    for name, value in fields.items():
        setattr(message, name, value)
    return message


# -- classification ---------------------------------------------------------------------------------------


def small_alexnet():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [10, 3, SIDE, SIDE]})
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=6, weight_filler={"type": "xavier"})
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.norm1 = L.LRN(n.pool1, local_size=3, alpha=1e-2)
    n.fc6 = L.InnerProduct(n.norm1, num_output=8, weight_filler={"type": "xavier"})
    n.relu6 = L.ReLU(n.fc6, in_place=True)
    n.fc8 = L.InnerProduct(n.relu6, num_output=CLASSES, weight_filler={"type": "xavier"})
    n.prob = L.Softmax(n.fc8)
    return n.to_proto()


@pytest.fixture
def alexnet(tmp_path):
    """Prototxt and weights of a small classifier."""
    model = write(tmp_path / "deploy.prototxt", small_alexnet())
    weights = str(tmp_path / "bvlc.caffemodel")
    caffe.Net(model, caffe.TEST).save(weights)
    return model, weights


def test_classification(alexnet, tmp_path):
    model, weights = alexnet
    random = np.random.RandomState(0)
    mean = random.rand(3, 20, 20) * 100
    np.save(tmp_path / "mean.npy", mean)
    Image.fromarray(random.randint(0, 256, (30, 25, 3)).astype(np.uint8)).save(tmp_path / "cat.jpg")

    net = caffe.Net(model, weights, caffe.TEST)
    mu = np.load(tmp_path / "mean.npy").mean(1).mean(1)
    transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", mu)
    transformer.set_raw_scale("data", 255)
    transformer.set_channel_swap("data", (2, 1, 0))
    net.blobs["data"].reshape(5, 3, SIDE, SIDE)
    image = caffe.io.load_image(str(tmp_path / "cat.jpg"))
    transformed = transformer.preprocess("data", image)
    net.blobs["data"].data[...] = transformed
    probabilities = net.forward()["prob"]

    assert probabilities.shape == (5, CLASSES) and np.allclose(probabilities.sum(1), 1, atol=1e-6)
    assert np.array_equal(probabilities[0], probabilities[4])
    assert probabilities[0].argsort()[::-1][0] == probabilities[0].argmax()
    shapes = {name: blob.data.shape for name, blob in net.blobs.items()}
    assert shapes["conv1"] == (5, 6, 10, 10) and shapes["pool1"] == (5, 6, 5, 5) and shapes["prob"] == (5, 4)
    sizes = {name: (param[0].data.shape, param[1].data.shape) for name, param in net.params.items()}
    assert sizes["conv1"] == ((6, 3, 3, 3), (6,)) and sizes["fc6"] == ((8, 150), (8,))
    filters = net.params["conv1"][0].data.transpose(0, 2, 3, 1)
    features = net.blobs["conv1"].data[0, :4]
    window = transformed[:, 2:5, 1:4].transpose(1, 2, 0)
    assert np.allclose(features[0, 2, 1], max(0, (filters[0] * window).sum()), rtol=1e-4, atol=1e-3)
    back = transformer.deprocess("data", net.blobs["data"].data[0])
    assert np.allclose(back, caffe.io.resize_image(image, (SIDE, SIDE)), atol=1e-5)


# -- net surgery ------------------------------------------------------------------------------------------


def test_surgery_on_parameters(tmp_path):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 9, 9]})
    n.conv = L.Convolution(
        n.data, kernel_size=5, num_output=3, weight_filler={"type": "gaussian", "std": 0.01}
    )
    net = caffe.Net(write(tmp_path / "conv.prototxt", n.to_proto()), caffe.TEST)
    image = np.random.RandomState(0).rand(1, 1, 11, 13)
    net.blobs["data"].reshape(*image.shape)
    net.blobs["data"].data[...] = image
    net.forward()
    before = net.blobs["conv"].data.copy()
    net.params["conv"][1].data[0] += 1.0
    net.forward()
    assert np.allclose(net.blobs["conv"].data[0, 0], before[0, 0] + 1, atol=1e-6)
    assert np.allclose(net.blobs["conv"].data[0, 1:], before[0, 1:], atol=1e-6)
    y, x = np.mgrid[-2:3, -2:3]
    gauss = np.exp(-(x**2 + y**2) / 2)
    net.params["conv"][0].data[0] = gauss / gauss.sum()
    net.params["conv"][0].data[1:] = net.params["conv"][0].data[0, 0] * [[[[1]]], [[[-1]]]]
    net.params["conv"][1].data[...] = 0
    net.forward()
    blurred = net.blobs["conv"].data[0]
    assert np.allclose(blurred[1], blurred[0]) and np.allclose(blurred[2], -blurred[0])
    assert blurred[0].std() < image.std() / 2


def test_a_classifier_made_fully_convolutional(alexnet, tmp_path):
    model, weights = alexnet
    net = caffe.Net(model, weights, caffe.TEST)
    spec = text_format.Parse(open(model).read(), caffe_pb2.NetParameter())
    for layer, name, size in zip(
        (spec.layer[5], spec.layer[7]), ("fc6-conv", "fc8-conv"), (5, 1), strict=True
    ):
        layer.type, outputs = "Convolution", layer.inner_product_param.num_output
        layer.ClearField("inner_product_param")
        layer.convolution_param.num_output, layer.name = outputs, name
        layer.convolution_param.kernel_size.append(size)
    full = caffe.Net(write(tmp_path / "full_conv.prototxt", spec), weights, caffe.TEST)
    pairs = {"fc6": "fc6-conv", "fc8": "fc8-conv"}
    for fc, conv in pairs.items():
        assert full.params[conv][0].data.shape[:1] == net.params[fc][0].data.shape[:1]
        full.params[conv][0].data.flat = net.params[fc][0].data.flat
        full.params[conv][1].data[...] = net.params[fc][1].data
    saved = str(tmp_path / "full_conv.caffemodel")
    full.save(saved)
    again = caffe.Net(str(tmp_path / "full_conv.prototxt"), saved, caffe.TEST)

    image = np.random.RandomState(3).rand(1, 3, SIDE + 4, SIDE + 6)
    again.blobs["data"].reshape(*image.shape)
    grid = again.forward_all(data=image)["prob"][0]
    assert grid.shape == (CLASSES, 3, 4)
    for i in range(3):
        for j in range(4):
            net.blobs["data"].data[...] = image[:, :, 2 * i : 2 * i + SIDE, 2 * j : 2 * j + SIDE]
            assert np.allclose(net.forward()["prob"][0], grid[:, i, j], atol=1e-5)
    assert grid.argmax(axis=0).shape == (3, 4)


# -- learning LeNet ---------------------------------------------------------------------------------------


def lenet(source, batch_size):
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=batch_size,
        backend=P.Data.LMDB,
        source=source,
        transform_param={"scale": 1.0 / 255},
        ntop=2,
    )
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=8, weight_filler={"type": "xavier"})
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool1, num_output=16, weight_filler={"type": "xavier"})
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=CLASSES, weight_filler={"type": "xavier"})
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


@pytest.fixture
def lenet_solver(tmp_path):
    """The path of a solver for LeNet on databases of 64 and 20 images."""
    nets = []
    for name, count, batch in (("train", 64, 16), ("test", 20, 10)):
        source = write_lmdb(tmp_path / f"{name}_lmdb", *pictures(count, seed=batch))
        nets.append(write(tmp_path / f"{name}.prototxt", lenet(source, batch)))
    return write(tmp_path / "solver.prototxt", solver_message(nets[0], nets[1:]))


def test_learning_lenet(lenet_solver):
    solver = caffe.SGDSolver(lenet_solver)
    shapes = [(name, blob.data.shape) for name, blob in solver.net.blobs.items()]
    assert shapes[:3] == [("data", (16, 1, SIDE, SIDE)), ("label", (16,)), ("conv1", (16, 8, 10, 10))]
    sizes = [(name, v[0].data.shape, v[1].data.shape) for name, v in solver.net.params.items()]
    assert sizes == [
        ("conv1", (8, 1, 3, 3), (8,)),
        ("fc1", (16, 200), (16,)),
        ("score", (CLASSES, 16), (CLASSES,)),
    ]
    assert solver.net.forward()["loss"].shape == ()
    first = solver.test_nets[0].forward()["loss"]
    images, labels = pictures(20, seed=10)
    assert np.allclose(solver.test_nets[0].blobs["data"].data, images[:10] / 255, atol=1e-6)
    assert list(solver.test_nets[0].blobs["label"].data) == list(labels[:10])
    assert first > 0

    solver.step(1)
    assert solver.net.params["conv1"][0].diff[:, 0].any()
    iterations = 40
    losses, scores, accuracies = np.zeros(iterations), np.zeros((iterations, 8, CLASSES)), []
    for it in range(iterations):
        solver.step(1)
        losses[it] = solver.net.blobs["loss"].data
        solver.test_nets[0].forward(start="conv1")
        scores[it] = solver.test_nets[0].blobs["score"].data[:8]
        if it % 20 == 19:
            correct = 0
            for _ in range(2):
                solver.test_nets[0].forward()
                correct += sum(
                    solver.test_nets[0].blobs["score"].data.argmax(1)
                    == solver.test_nets[0].blobs["label"].data
                )
            accuracies.append(correct / 20)
    assert solver.iter == iterations + 1
    assert losses[-5:].mean() < losses[:5].mean() / 5
    assert accuracies[-1] > 0.9
    assert np.array_equal(solver.test_nets[0].params["conv1"][0].data, solver.net.params["conv1"][0].data)
    assert not np.array_equal(scores[0], scores[-1])


def test_a_solver_prototxt_edited_in_python(lenet_solver, tmp_path):
    message = caffe_pb2.SolverParameter()
    text_format.Merge(open(lenet_solver).read(), message)
    message.type = "Adam"
    message.base_lr, message.momentum, message.momentum2 = 0.002, 0.9, 0.999
    message.lr_policy, message.gamma, message.power = "inv", 0.0001, 0.75
    message.max_iter = 25
    message.solver_mode = caffe_pb2.SolverParameter.GPU  # which pycaffe does not read
    path = write(tmp_path / "adam.prototxt", message)
    solver = caffe.get_solver(path)
    assert type(solver) is caffe.AdamSolver and solver.param.max_iter == 25
    solver.net.forward()
    before = float(solver.net.blobs["loss"].data)
    solver.solve()
    assert solver.iter == 25 and solver.net.blobs["loss"].data < before / 2
    assert solver.lr == pytest.approx(0.002 * (1 + 0.0001 * 25) ** -0.75)


# -- fine-tuning ------------------------------------------------------------------------------------------

LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FROZEN = [{"lr_mult": 0}] * 2


def style_net(data, label=None, train=True, classifier="fc8", learn_all=False):
    n = caffe.NetSpec()
    n.data = data
    param = LEARNED if learn_all else FROZEN
    filler = {"weight_filler": {"type": "gaussian", "std": 0.01}}
    n.conv1 = L.Convolution(
        n.data, kernel_size=3, num_output=6, param=param, weight_filler={"type": "xavier"}
    )
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.fc7 = L.InnerProduct(n.relu1, num_output=64, param=param, weight_filler={"type": "xavier"})
    n.relu7 = L.ReLU(n.fc7, in_place=True)
    last = L.Dropout(n.relu7, in_place=True) if train else n.relu7
    score = L.InnerProduct(last, num_output=CLASSES, param=LEARNED, **filler)
    n[classifier] = score
    if not train:
        n.probs = L.Softmax(score)
    if label is not None:
        n.label = label
        n.loss = L.SoftmaxWithLoss(score, n.label)
        n.acc = L.Accuracy(score, n.label)
    return n.to_proto()


def test_fine_tuning(tmp_path):
    images, labels = pictures(24, seed=5, channels=3)
    lines = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{i}.png")
        lines.append(f"{tmp_path}/{i}.png {label}\n")
    source = write(tmp_path / "train.txt", "".join(lines))
    data, label = L.ImageData(
        transform_param={"mirror": False, "crop_size": 10, "mean_value": [104, 117, 123], "scale": 0.01},
        source=source,
        batch_size=12,
        new_height=SIDE,
        new_width=SIDE,
        ntop=2,
    )
    dummy = L.DummyData(shape={"dim": [1, 3, 10, 10]})
    pretrained = str(tmp_path / "imagenet.caffemodel")
    caffe.Net(write(tmp_path / "imagenet.prototxt", style_net(dummy, train=False)), caffe.TEST).save(
        pretrained
    )

    # another name for the classifier: it starts afresh, the rest comes from the file
    deploy = write(tmp_path / "untrained.prototxt", style_net(data, train=False, classifier="fc8_style"))
    untrained = caffe.Net(deploy, pretrained, caffe.TEST)
    untrained.forward()
    batch = untrained.blobs["data"].data.copy()
    assert batch.shape == (12, 3, 10, 10)
    centre = images[:12, ::-1, 1:11, 1:11].astype(float) - np.array([104, 117, 123]).reshape(3, 1, 1)
    assert np.allclose(batch, centre * 0.01, atol=1e-5)
    net = caffe.Net(str(tmp_path / "imagenet.prototxt"), caffe.TEST, weights=pretrained)
    net.blobs["data"].data[0, ...] = batch[0]
    assert net.forward(start="conv1")["probs"][0].shape == (CLASSES,)
    assert np.allclose(net.blobs["fc7"].data[0], untrained.blobs["fc7"].data[0], atol=1e-5)

    nets = {}
    for name, learn_all in (("frozen", False), ("end to end", True)):
        train = style_net(data, label, classifier="fc8_style", learn_all=learn_all)
        message = solver_message(
            write(tmp_path / f"{learn_all}.prototxt", train), base_lr=0.03, weight_decay=5e-4
        )
        solver = caffe.get_solver(write(tmp_path / f"solver{learn_all}.prototxt", message))
        solver.net.copy_from(pretrained)
        loss, acc = np.zeros(80), np.zeros(80)
        for it in range(80):
            solver.step(1)
            loss[it], acc[it] = (solver.net.blobs[b].data.copy() for b in ("loss", "acc"))
        nets[name] = solver.net
        assert loss[-5:].mean() < loss[0] * 0.7 and acc[-5:].mean() > 0.5
    source = caffe.Net(str(tmp_path / "imagenet.prototxt"), pretrained, caffe.TEST)
    for layer in ("conv1", "fc7"):
        for i in range(2):
            assert np.array_equal(nets["frozen"].params[layer][i].data, source.params[layer][i].data)
        assert not nets["frozen"].params[layer][0].diff.any()
        assert not np.array_equal(nets["end to end"].params[layer][0].data, source.params[layer][0].data)
    tuned = str(tmp_path / "tuned.caffemodel")
    nets["frozen"].save(tuned)
    evaluated = style_net(data, label, train=False, classifier="fc8_style")
    net = caffe.Net(write(tmp_path / "eval.prototxt", evaluated), tuned, caffe.TEST)
    assert np.mean([net.forward()["acc"] for _ in range(2)]) > 0.9


# -- brewing logistic regression ----------------------------------------------------------------------------


def logreg(source, batch_size, hidden=0):
    n = caffe.NetSpec()
    n.data, n.label = L.HDF5Data(batch_size=batch_size, source=source, ntop=2)
    x = n.data
    if hidden:
        n.ip0 = L.InnerProduct(x, num_output=hidden, weight_filler={"type": "xavier"})
        x = n.relu0 = L.ReLU(n.ip0, in_place=True)
    n.ip1 = L.InnerProduct(x, num_output=2, weight_filler={"type": "xavier"})
    n.accuracy = L.Accuracy(n.ip1, n.label)
    n.loss = L.SoftmaxWithLoss(n.ip1, n.label)
    return n.to_proto()


def test_brewing_logistic_regression(tmp_path):
    random = np.random.RandomState(0)
    x = random.randn(400, 4).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + 0.5 * x[:, 2] > 0).astype(np.float32)  # a line cannot part them
    lists = {}
    for name, part in (("train", slice(0, 300)), ("test", slice(300, 400))):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("data", data=x[part], compression="gzip")
            file.create_dataset("label", data=y[part])
        lists[name] = write(tmp_path / f"{name}.txt", f"{tmp_path}/{name}.h5\n{tmp_path}/{name}.h5\n")
    accuracies = {}
    for hidden in (0, 20):
        nets = [
            write(tmp_path / f"{name}{hidden}.prototxt", logreg(lists[name], batch, hidden))
            for name, batch in (("train", 10), ("test", 25))
        ]
        message = solver_message(nets[0], nets[1:], base_lr=0.1, max_iter=400)
        solver = caffe.get_solver(write(tmp_path / "solver.prototxt", message))
        solver.solve()
        net = solver.test_nets[0]
        net.share_with(solver.net)
        accuracy = 0
        for _ in range(4):
            net.forward()
            accuracy += net.blobs["accuracy"].data
        accuracies[hidden] = accuracy / 4
        h = x[300:].astype(float)
        for name in (["ip0"] if hidden else []) + ["ip1"]:
            weights, bias = (blob.data for blob in net.params[name])
            h = (h.clip(0) if name == "ip1" and hidden else h) @ weights.T + bias
        assert accuracies[hidden] == pytest.approx((h.argmax(1) == y[300:]).mean())
    assert 0.6 < accuracies[0] < accuracies[20] and accuracies[20] > 0.85


# -- pascal multilabel --------------------------------------------------------------------------------------


class MultilabelData(caffe.Layer):
    """Images with any number of the classes in them; ``param_str`` is a dict as text."""

    def setup(self, bottom, top):
        self.params = ast.literal_eval(self.param_str)
        self.batch_size = self.params["batch_size"]
        images, labels = pictures(60, seed=self.params["seed"], channels=3)
        # two pictures side by side: one or two classes
        self.images = np.concatenate([images[:30], images[30:]], axis=3).astype(np.float32) / 255
        self.labels = np.zeros((30, CLASSES), np.float32)
        self.labels[np.arange(30), labels[:30]] = self.labels[np.arange(30), labels[30:]] = 1
        self.next = 0
        top[0].reshape(self.batch_size, *self.images.shape[1:])
        top[1].reshape(self.batch_size, CLASSES)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        for item in range(self.batch_size):
            top[0].data[item, ...] = self.images[self.next]
            top[1].data[item, ...] = self.labels[self.next]
            self.next = (self.next + 1) % len(self.images)

    def backward(self, top, propagate_down, bottom):
        pass


def multilabel_net(**data):
    n = caffe.NetSpec()
    n.data, n.label = L.Python(module=__name__, layer="MultilabelData", ntop=2, param_str=str(data))
    n.conv1 = L.Convolution(n.data, kernel_size=4, stride=2, num_output=12, weight_filler={"type": "xavier"})
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=CLASSES, weight_filler={"type": "xavier"})
    n.loss = L.SigmoidCrossEntropyLoss(n.score, n.label)
    return n.to_proto()


def hamming_accuracy(net, batches, batch_size):
    hits = 0
    for _ in range(batches):
        net.forward()
        truth, estimate = net.blobs["label"].data, net.blobs["score"].data > 0
        hits += sum((t > 0.5) == e for t, e in zip(truth, estimate, strict=True)).sum()
    return hits / (batches * batch_size * CLASSES)


def test_pascal_multilabel_with_a_python_layer(tmp_path):
    train = write(tmp_path / "train.prototxt", multilabel_net(batch_size=6, seed=1))
    val = write(tmp_path / "val.prototxt", multilabel_net(batch_size=5, seed=2))
    solver = caffe.SGDSolver(write(tmp_path / "solver.prototxt", solver_message(train, [val], base_lr=0.01)))
    solver.test_nets[0].share_with(solver.net)
    solver.step(1)
    assert solver.net.blobs["data"].data.shape == (6, 3, SIDE, 2 * SIDE)
    baseline = hamming_accuracy(solver.test_nets[0], 6, 5)
    scores, labels = solver.net.blobs["score"].data.astype(float), solver.net.blobs["label"].data
    entropy = np.log1p(np.exp(scores)) - labels * scores
    assert solver.net.blobs["loss"].data == pytest.approx(entropy.sum() / 6, rel=1e-4)
    solver.step(60)
    assert hamming_accuracy(solver.test_nets[0], 6, 5) > max(0.85, baseline)


# -- siamese ------------------------------------------------------------------------------------------------


def branch(data, suffix):
    filler = {"weight_filler": {"type": "xavier"}}
    names = lambda stem: [{"name": f"{stem}_w"}, {"name": f"{stem}_b", "lr_mult": 2}]  # noqa: E731
    conv = L.Convolution(data, kernel_size=4, stride=2, num_output=8, param=names("conv1"), **filler)
    hidden = L.ReLU(L.InnerProduct(conv, num_output=16, param=names("ip1"), **filler), in_place=True)
    return L.InnerProduct(hidden, num_output=2, param=names("feat"), name=f"feat{suffix}", **filler)


def test_siamese(tmp_path):
    (left, left_labels), (right, right_labels) = pictures(80, seed=3), pictures(80, seed=4)
    same = (left_labels == right_labels).astype(np.uint8)
    source = write_lmdb(tmp_path / "pairs", np.concatenate([left, right], axis=1), same)
    n = caffe.NetSpec()
    n.pair_data, n.sim = L.Data(
        batch_size=20, backend=P.Data.LMDB, source=source, transform_param={"scale": 1 / 255}, ntop=2
    )
    n.data, n.data_p = L.Slice(n.pair_data, axis=1, slice_point=1, ntop=2)
    n.feat, n.feat_p = branch(n.data, ""), branch(n.data_p, "_p")
    n.loss = L.ContrastiveLoss(n.feat, n.feat_p, n.sim, margin=1)
    message = solver_message(write(tmp_path / "train.prototxt", n.to_proto()), base_lr=0.05)
    solver = caffe.SGDSolver(write(tmp_path / "solver.prototxt", message))
    solver.step(150)
    for i in range(2):
        ours, theirs = solver.net.params["feat"][i], solver.net.params["feat_p"][i]
        assert np.shares_memory(ours.data, theirs.data) and np.shares_memory(ours.diff, theirs.diff)
    weights = str(tmp_path / "siamese.caffemodel")
    solver.net.save(weights)

    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [7, 1, SIDE, SIDE]})
    n.feat = branch(n.data, "")
    trained = caffe_pb2.NetParameter()
    trained.ParseFromString(open(weights, "rb").read())
    deploy = n.to_proto()
    first = [layer.name for layer in trained.layer if layer.type in ("Convolution", "InnerProduct")][:3]
    for layer, name in zip(
        [x for x in deploy.layer if x.type in ("Convolution", "InnerProduct")], first, strict=True
    ):
        layer.name = name
    net = caffe.Net(write(tmp_path / "deploy.prototxt", deploy), weights, caffe.TEST)
    images, labels = pictures(40, seed=9)
    features = net.forward_all(data=images * (1 / 255))["feat"]
    assert features.shape == (40, 2)
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    alike = labels[:, None] == labels[None]
    assert distance[alike].mean() < distance[~alike].mean() / 3
