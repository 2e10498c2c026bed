import re
import subprocess
import sys
import threading
from pathlib import Path

import caffe
import numpy as np
import pytest
from PIL import Image

import feed
import infer

ROOT = Path(infer.__file__).parent

DEPLOY = """
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
        convolution_param { num_output: 21 kernel_size: 1 } }
"""
VAL = """
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "layers"
        layer: "VOCSegDataLayer"
        param_str: "{'voc_dir': '../data/pascal/VOC2011', 'split': 'val', 'mean': (100, 110, 120)}" } }
"""
OPTIONS = ("deploy", "weights", "mean", "classes", "gpu", "precision")
RED, BLUE, DARK = (250, 0, 0), (0, 0, 250), (100, 100, 100)
PERSON, BIRD = 15, 3


def make_weights(model, path):
    """Weights that take red (above the mean) for a person, blue for a bird, and all else for background."""
    net = caffe.Net(str(model / "deploy.prototxt"), caffe.TEST)
    weight, bias = net.params["score"]
    weight.data[PERSON, 2] = 1
    weight.data[BIRD, 0] = 1
    bias.data[0] = 50
    path.parent.mkdir(exist_ok=True)
    net.save(str(path))


@pytest.fixture
def model(tmp_path):
    made = tmp_path / "toy"
    made.mkdir()
    (made / "deploy.prototxt").write_text(DEPLOY)
    (made / "val.prototxt").write_text(VAL)
    make_weights(made, made / "toy.caffemodel")
    return made


def photo(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)
    return str(path)


def run(model, *args, out="out"):
    return infer.main([*map(str, args), "--model", str(model), "--cpu", "--out", str(model.parent / out)])


def prediction(path):
    image = Image.open(path)
    assert image.mode == "P"
    return np.array(image).tolist()


def test_a_photograph_gives_an_indexed_png_an_overlay_and_a_list(tmp_path, model, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = photo(tmp_path / "a.png", [[RED, BLUE, DARK, DARK], [RED, DARK, DARK, DARK]])
    assert run(model, path) == 0
    assert prediction(tmp_path / "out/a.png") == [[PERSON, BIRD, 0, 0], [PERSON, 0, 0, 0]]
    assert Image.open(tmp_path / "out/a_overlay.png").mode == "RGB"
    said = capsys.readouterr().out
    assert "background 62.5%, person 25.0%, bird 12.5%" in said
    assert "4 x 2, " in said and " ms" in said and "out/a.png  out/a_overlay.png" in said
    assert "on CPU" in said


def test_the_mean_is_the_models_and_can_be_given(tmp_path, model):
    path = photo(tmp_path / "a.png", [[(165, 0, 0)]])  # 45 above the model's mean of red: less than 50
    assert run(model, path) == 0 and prediction(tmp_path / "out/a.png") == [[0]]
    assert run(model, path, "--mean", 100, 110, 110) == 0 and prediction(tmp_path / "out/a.png") == [[PERSON]]


def test_several_files_and_folders_go_on_past_bad_ones(tmp_path, model, capsys):
    photo(tmp_path / "in/b.png", [[RED]])
    photo(tmp_path / "in/d.png", [[BLUE]])
    (tmp_path / "in/c.png").write_text("junk")
    (tmp_path / "empty").mkdir()
    assert run(model, tmp_path / "in", tmp_path / "no.jpg", tmp_path / "empty") == 1
    assert prediction(tmp_path / "out/b.png") == [[PERSON]] and prediction(tmp_path / "out/d.png") == [[BIRD]]
    printed = capsys.readouterr()
    assert printed.out.count(" ms") == 3  # two images, and the mean
    at_once, at_the_end = printed.err.split("3 of 5 failed:")
    for part in (at_once, at_the_end):
        assert (
            "c.png is not an image" in part
            and "no.jpg does not exist" in part
            and "empty is a folder" in part
        )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "b.png", "b_overlay.png", "d.png", "d_overlay.png"
    ]  # fmt: skip


def test_no_output_overwrites_another_or_an_input(tmp_path, model):
    paths = [
        photo(tmp_path / "x/a.png", [[RED]]),
        photo(tmp_path / "y/a.png", [[BLUE]]),
        photo(tmp_path / "y/a_overlay.png", [[DARK]]),
        photo(tmp_path / "out/b.png", [[BLUE]]),
    ]
    before = Path(paths[3]).read_bytes()
    assert run(model, *paths, paths[0]) == 0
    found = {p.stem: prediction(p) for p in (tmp_path / "out").iterdir() if Image.open(p).mode == "P"}
    assert found == {"a": [[PERSON]], "a_2": [[BIRD]], "a_overlay_2": [[0]], "b_2": [[BIRD]]}
    assert Path(paths[3]).read_bytes() == before


def test_images_of_every_kind_and_turn(tmp_path, model):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.array([[RED, DARK, DARK]], np.uint8))
    turned.save(tmp_path / "exif.png", exif=exif)
    Image.fromarray(np.array([[RED]], np.uint8)).convert("P").save(tmp_path / "palette.png")
    Image.new("L", (2, 2)).save(tmp_path / "grey.png")
    Image.new("RGBA", (1, 1), (250, 0, 0, 255)).save(tmp_path / "alpha.png")
    assert run(model, *(tmp_path / f"{name}.png" for name in ("exif", "palette", "grey", "alpha"))) == 0
    assert prediction(tmp_path / "out/exif.png") == [[PERSON], [0], [0]]
    assert prediction(tmp_path / "out/palette.png") == [[PERSON]]
    assert prediction(tmp_path / "out/grey.png") == [[0, 0], [0, 0]]
    assert prediction(tmp_path / "out/alpha.png") == [[PERSON]]


# what the net is made of


def test_weights_are_the_models_own_then_the_newest_snapshot(tmp_path, model):
    own = model / "toy.caffemodel"
    assert infer.find_weights(model) == own
    for number in (900, 10000, 2000):
        make_weights(model, model / "snapshot" / f"train_iter_{number}.caffemodel")
    assert infer.find_weights(model) == own
    own.unlink()
    assert infer.find_weights(model).name == "train_iter_10000.caffemodel"


def message(*args):
    """What main prints when it gives up before the first image."""
    with pytest.raises(SystemExit) as stop:
        infer.main(["any.jpg", "--cpu", *map(str, args)])
    assert str(stop.value.code).startswith("error: ")
    return stop.value.code


def test_missing_weights_say_where_to_get_them(tmp_path, model):
    released = tmp_path / "voc-fcn8s"
    model.rename(released)
    (released / "toy.caffemodel").unlink()
    said = message("--model", released)
    for part in (
        str(released / "voc-fcn8s.caffemodel"),
        "snapshot",
        "get the authors' (538 MB): python data/released/prepare.py get voc-fcn8s\n",
        f"put http://dl.caffe.berkeleyvision.org/fcn8s-heavy-pascal.caffemodel into {released}\n",
        "python voc-fcn8s/solve.py",
        "--model mini-fcn8s",
        "--weights",
    ):
        assert part in said
    make_weights(released, released / "fcn8s-heavy-pascal.caffemodel")
    assert infer.find_weights(released).name == "fcn8s-heavy-pascal.caffemodel"


def test_an_unknown_model_lists_those_there_are(tmp_path):
    assert "there is no model nix; there are" in message("--model", "nix")


def test_a_broken_or_missing_deploy_net_is_named(tmp_path, model):
    (model / "deploy.prototxt").write_text("layer { nmae: 1 }")
    assert "deploy.prototxt" in message("--model", model)
    (model / "deploy.prototxt").unlink()
    said = message("--model", model)
    assert "deploy.prototxt does not exist" in said and "net.py" in said


def test_weights_of_another_net_are_refused(tmp_path, model):
    other = DEPLOY.replace("num_output: 21", "num_output: 5")
    (tmp_path / "other.prototxt").write_text(other)
    caffe.Net(str(tmp_path / "other.prototxt"), caffe.TEST).save(str(tmp_path / "other.caffemodel"))
    assert "other.caffemodel" in message("--model", model, "--weights", tmp_path / "other.caffemodel")
    (tmp_path / "junk.caffemodel").write_bytes(b"\xff" * 50)
    assert "junk.caffemodel" in message("--model", model, "--weights", tmp_path / "junk.caffemodel")
    assert "none.caffemodel" in message("--model", model, "--weights", tmp_path / "none.caffemodel")


def test_a_layer_left_at_zero_is_warned_of_and_upsampling_is_filled(tmp_path, model, capsys):
    (model / "deploy.prototxt").write_text(
        DEPLOY.replace('top: "score"', 'top: "coarse"')
        + """layer { name: "extra" type: "Convolution" bottom: "coarse" top: "extra"
        convolution_param { num_output: 21 kernel_size: 1 } }
        layer { name: "upscore" type: "Deconvolution" bottom: "coarse" top: "score"
        convolution_param { num_output: 21 kernel_size: 1 bias_term: false } }"""
    )
    path = photo(tmp_path / "a.png", [[RED]])
    assert run(model, path) == 0
    assert "exactly zero with " in (said := capsys.readouterr().err) and ": extra." in said
    assert prediction(tmp_path / "out/a.png") == [[PERSON]]


def test_names_and_channels_must_fit_the_net(tmp_path, model):
    (tmp_path / "two.txt").write_text("ground\nobject\n")
    assert "2 class names for the 21 classes" in message("--model", model, "--classes", tmp_path / "two.txt")
    assert "does not exist" in message("--model", model, "--classes", tmp_path / "none.txt")
    (model / "deploy.prototxt").write_text(DEPLOY.replace("dim: 1 dim: 3", "dim: 1 dim: 4"))
    assert "takes 4 channels" in message("--model", model)
    (model / "deploy.prototxt").write_text(DEPLOY.replace('top: "score"', 'top: "scores"'))
    assert "has no blob 'score'; it has data, scores" in message("--model", model)


def test_a_deploy_file_alone_needs_the_mean(tmp_path, model, capsys):
    (model / "val.prototxt").unlink()
    weights = model / "toy.caffemodel"
    said = message("--deploy", model / "deploy.prototxt", "--weights", weights)
    assert "give --mean B G R" in said
    path = photo(tmp_path / "a.png", [[RED]])
    args = ["--deploy", model / "deploy.prototxt", "--weights", weights, "--mean", 100, 110, 120]
    assert infer.main([path, "--cpu", *map(str, args), "--out", str(tmp_path / "out")]) == 0
    assert "class 15 100.0%" in capsys.readouterr().out


@pytest.fixture
def precisions(monkeypatch):
    """What the engine was told to compute in; afterwards it is as before."""
    told = []
    set_precision = getattr(caffe, "set_precision", None)
    if set_precision:
        monkeypatch.setattr(caffe, "set_precision", lambda word: told.append(word) or set_precision(word))
    yield told
    if set_precision:
        set_precision("float32")


@pytest.mark.needs_embedded("it computes in float32 alone")
def test_a_precision_can_be_chosen(tmp_path, model, precisions, capsys):
    path = photo(tmp_path / "a.png", [[RED, BLUE], [DARK, DARK]])
    for precision, said in (("bf16", "toy on CPU in bf16, weights"), ("tf32", "toy on CPU in tf32, weights")):
        assert run(model, path, "--precision", precision) == 0
        assert precisions.pop() == precision and said in capsys.readouterr().out
        assert prediction(tmp_path / "out/a.png") == [[PERSON, BIRD], [0, 0]]
    # of another net in this process that asks for none, nothing of that is left
    assert run(model, path) == 0
    assert precisions == ["float32"] and "toy on CPU, weights" in capsys.readouterr().out


def test_the_original_engine_computes_in_float32_alone(tmp_path, model, monkeypatch, capsys):
    monkeypatch.delattr(caffe, "set_precision", raising=False)
    path = photo(tmp_path / "a.png", [[RED]])
    for words in ([], ["--precision", "float32"]):
        assert run(model, path, *words) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(model, path, "--precision", "bf16")
    assert "--precision bf16 is not to be had of the original Caffe" in str(stop.value.code)
    assert "leave it out" in str(stop.value.code)


def test_precisions_are_those_of_the_engine():
    import options

    if hasattr(caffe, "set_precision"):
        from caffe import common

        assert options.PRECISIONS == common.PRECISIONS


@pytest.mark.needs_embedded("the original keeps every blob of every forward")
def test_scores_that_are_no_output_are_asked_for(tmp_path, model):
    text = DEPLOY + 'layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }'
    (model / "deploy.prototxt").write_text(text)
    found = infer.load(infer.argparse.Namespace(**dict.fromkeys(OPTIONS), model=str(model), cpu=True))
    seg = found([np.array([[[-50]], [[-50]], [[150]]], np.float32)])
    assert seg[0].tolist() == [[PERSON]] and "score" not in found.net.outputs and not found.net.keeps_values


def test_the_next_image_is_read_while_one_is_in_the_net(tmp_path, model, monkeypatch):
    reading, segment, read = threading.Event(), infer.Segmenter.__call__, infer.Segmenter.read

    def reads(self, files):
        if files[0].endswith("b.png"):
            reading.set()
        return read(self, files)

    def waits(self, values):
        assert reading.wait(30), "the second image is read only after the first one is done"
        return segment(self, values)

    monkeypatch.setattr(infer.Segmenter, "read", reads)
    monkeypatch.setattr(infer.Segmenter, "__call__", waits)
    paths = [photo(tmp_path / f"in/{name}.png", [[RED]]) for name in "ab"]
    assert run(model, *paths) == 0
    assert prediction(tmp_path / "out/a.png") == prediction(tmp_path / "out/b.png") == [[PERSON]]


def test_as_a_command_it_ends_with_one_message_and_status_1(tmp_path, model):
    path = photo(tmp_path / "a.png", [[RED]])
    command = [sys.executable, str(ROOT / "infer.py"), path, "--model", str(model), "--cpu"]
    done = subprocess.run([*command, "none.jpg"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("none.jpg does not exist") == 2
    assert "Traceback" not in done.stderr and (tmp_path / "out/a.png").exists()
    done = subprocess.run([*command[:3], "--model", "nix"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


# nets that see other things than one photograph, or say more than one


def layer(name, kind, bottom="", top="", more=""):
    bottoms = "".join(f' bottom: "{each}"' for each in bottom.split())
    return f'layer {{ name: "{name}" type: "{kind}"{bottoms} top: "{top or name}" {more} }}\n'


def given(name, channels):
    return layer(name, "Input", more=f"input_param {{ shape {{ dim: 1 dim: {channels} dim: 4 dim: 4 }} }}")


def scores(name, bottom, classes):
    return layer(
        name, "Convolution", bottom, more=f"convolution_param {{ num_output: {classes} kernel_size: 1 }}"
    )


@pytest.fixture
def toy(tmp_path):
    """``toy(deploy, data_layer, params, weights)``: a model directory scored on test.prototxt."""

    def toy(deploy, data_layer, params, weights):
        made = tmp_path / "toy"
        made.mkdir()
        (made / "deploy.prototxt").write_text(deploy)
        (made / "test.prototxt").write_text(
            f"""layer {{ name: "data" type: "Python" top: "data" python_param {{ module: "layers"
            layer: "{data_layer}" param_str: "{params}" }} }}"""
        )
        net = caffe.Net(str(made / "deploy.prototxt"), caffe.TEST)
        for name, values in weights.items():
            for (index, channel), value in values.items():
                net.params[name][0].data[index, channel] = value
        net.save(str(made / "toy.caffemodel"))
        return made

    return toy


NYUD = {"nyud_dir": "../data/nyud", "split": "test"}


def test_two_heads_write_each_its_own_and_name_their_own_classes(tmp_path, toy, capsys):
    """Sky is above the mean in blue (a semantic class, and a geometric one); red is a person."""
    model = toy(
        given("data", 3) + scores("score_sem", "data", 33) + scores("score_geo", "data", 3),
        "SIFTFlowSegDataLayer",
        {"siftflow_dir": "../data/sift-flow", "split": "test", "tops": ["data", "sem", "geo"]},
        {"score_sem": {(27, 0): 1, (17, 2): 1}, "score_geo": {(0, 0): 1, (2, 2): 1}},
    )
    path = photo(tmp_path / "a.png", [[BLUE, RED], [BLUE, BLUE]])
    assert run(model, path) == 0
    assert prediction(tmp_path / "out/a_sem.png") == [[27, 17], [27, 27]]
    assert prediction(tmp_path / "out/a_geo.png") == [[0, 2], [0, 0]]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_geo.png", "a_geo_overlay.png", "a_sem.png", "a_sem_overlay.png"
    ]  # fmt: skip
    said = capsys.readouterr().out
    semantic = feed.class_names("sift-flow", "sem")
    assert f"  sem: {semantic[27]} 75.0%, {semantic[17]} 25.0%" in said
    assert "  geo: sky 75.0%, vertical 25.0%" in said
    # again: nothing is overwritten that another image of this run gave
    assert run(model, path, photo(tmp_path / "b/a.png", [[RED]])) == 0
    assert prediction(tmp_path / "out/a_2_geo.png") == [[2]]


def test_two_heads_take_a_class_list_each(tmp_path, toy, capsys):
    model = toy(
        given("data", 3) + scores("score_sem", "data", 2) + scores("score_geo", "data", 3),
        "SIFTFlowSegDataLayer",
        {"siftflow_dir": "../data/sift-flow", "split": "test", "tops": ["data", "sem", "geo"]},
        {"score_sem": {(1, 0): 1}, "score_geo": {(2, 0): 1}},
    )
    for name, words in (("two", "ground object"), ("three", "up flat high")):
        (tmp_path / f"{name}.txt").write_text("\n".join(words.split()))
    two, three = (("--classes", tmp_path / f"{name}.txt") for name in ("two", "three"))
    path = photo(tmp_path / "a.png", [[BLUE]])
    assert run(model, path, *two, *three) == 0
    said = capsys.readouterr().out
    assert "sem: object 100.0%" in said and "geo: high 100.0%" in said
    assert "33 class names for the 2 classes" in (told := message("--model", model)) and "head sem" in told
    assert "1 class lists for the 2 heads" in message("--model", model, *two)


def test_one_head_of_a_two_headed_set_has_its_own_class_names(tmp_path, toy, capsys):
    model = toy(
        given("data", 3) + scores("score_geo", "data", 3),
        "SIFTFlowSegDataLayer",
        {"siftflow_dir": "../data/sift-flow", "split": "test", "tops": ["data", "geo"]},
        {"score_geo": {(1, 2): 1}},
    )
    assert run(model, photo(tmp_path / "a.png", [[RED]])) == 0
    assert prediction(tmp_path / "out/a.png") == [[1]]
    assert "  horizontal 100.0%" in capsys.readouterr().out


def test_hha_is_read_without_turning_its_channels_round(tmp_path, toy):
    model = toy(
        given("data", 3) + scores("score", "data", 40),
        "NYUDSegDataLayer",
        {**NYUD, "tops": ["hha", "label"]},
        {"score": {(7, 0): 1, (8, 1): 1, (9, 2): 1}},
    )
    # one more than the mean, which is 132.431, 94.076, 118.477, in one channel
    path = photo(tmp_path / "a.png", [[(134, 94, 118), (132, 96, 118), (132, 94, 120)]])
    assert run(model, path) == 0
    assert prediction(tmp_path / "out/a.png") == [[7, 8, 9]]
    assert "--mean is for photographs" in message("--model", model, "--mean", 1, 2, 3)
    assert "give hha files as the images" in message("--model", model, "--hha", path)


@pytest.fixture
def colour_and_hha(toy):
    return toy(
        given("color", 3)
        + given("hha", 3)
        + layer("both", "Concat", "color hha")
        + scores("score", "both", 40),
        "NYUDSegDataLayer",
        {**NYUD, "tops": ["color", "hha", "label"]},
        {"score": {(1, 2): 1, (2, 3): 1}},  # red, and disparity
    )


def test_hha_beside_a_photograph(tmp_path, colour_and_hha):
    path = photo(tmp_path / "a.png", [[RED, (92, 97, 116)]])
    hha = photo(tmp_path / "a_hha.png", [[(132, 94, 118), (200, 94, 118)]])
    assert run(colour_and_hha, path, "--hha", hha) == 0
    assert prediction(tmp_path / "out/a.png") == [[1, 2]]


def test_a_folder_beside_the_images_has_a_file_for_each(tmp_path, colour_and_hha, capsys):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "color" / name, [[RED]])
        photo(tmp_path / "hha" / name, [[(132, 94, 118)]])
    Image.fromarray(np.array([[RED]], np.uint8)).save(tmp_path / "color/c.jpg", quality=95)
    photo(tmp_path / "hha/c.png", [[(255, 94, 118)]])
    photo(tmp_path / "color/d.png", [[RED]])
    photo(tmp_path / "color/e.png", [[RED]])
    photo(tmp_path / "hha/e.png", [[RED, RED]])
    assert run(colour_and_hha, tmp_path / "color", "--hha", tmp_path / "hha") == 1
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {
        stem + end for stem in "abc" for end in ("", "_overlay")
    }
    said = capsys.readouterr().err
    assert f"{tmp_path / 'hha/d.png'} does not exist" in said
    assert f"{tmp_path / 'hha/e.png'} is 2 x 1 pixels, its image {tmp_path / 'color/e.png'} 1 x 1" in said


def test_depth_beside_a_photograph(tmp_path, toy):
    model = toy(
        given("color", 3)
        + given("depth", 1)
        + layer("data", "Concat", "color depth")
        + scores("score", "data", 40),
        "NYUDSegDataLayer",
        {**NYUD, "tops": ["color", "depth", "label"]},
        {"score": {(4, 3): 1, (5, 3): -1}},
    )
    path = photo(tmp_path / "a.png", [[DARK, DARK]])
    depth = tmp_path / "depth.png"
    Image.fromarray(np.array([[9000, 1000]], np.uint16)).save(depth)  # exp(7.844) mm is the mean, 2550
    assert run(model, path, "--depth", depth) == 0
    assert prediction(tmp_path / "out/a.png") == [[4, 5]]
    assert run(model, path, "--depth", path) == 1  # an 8-bit file is no depth


def test_what_the_net_sees_besides_must_be_given_and_fit(tmp_path, colour_and_hha):
    paths = [photo(tmp_path / f"{name}.png", [[RED]]) for name in "ab"]

    def told(*args):
        with pytest.raises(SystemExit) as stop:
            run(*args)
        return stop.value.code

    assert "sees color and hha: give --hha FILE, or a folder" in told(colour_and_hha, *paths)
    assert "one file for 2 images: give a folder" in told(colour_and_hha, *paths, "--hha", paths[0])
    assert "--depth x.png is not for this net" in told(
        colour_and_hha, paths[0], "--hha", paths[0], "--depth", "x.png"
    )
    deploy = colour_and_hha / "deploy.prototxt"
    deploy.write_text(given("color", 3) + scores("score", "color", 40))
    assert "has 1 inputs (color); its data gives 2 (color, hha)" in told(colour_and_hha, paths[0])


def test_every_released_file_is_known(tmp_path):
    """A download for each of the release's 14 models, and none for the others."""
    assert len(infer.RELEASED) == 14
    for name in infer.RELEASED:
        assert (ROOT / name / "deploy.prototxt").exists()
        (tmp_path / name).mkdir()
        with pytest.raises(infer.DataError) as caught:
            infer.find_weights(tmp_path / name)
        said = str(caught.value)
        assert re.search(rf" \(\d+ MB\): python data/released/prepare.py get {name}\n", said)
        file = infer.RELEASED[name].name
        assert f"put http://dl.caffe.berkeleyvision.org/{file} into {tmp_path / name}\n" in said
        assert str(tmp_path / name / file) in said.split("Either")[0]
    (tmp_path / "voc-fcn-pool4").mkdir()
    with pytest.raises(infer.DataError, match=r"no weights for voc-fcn-pool4; ") as caught:
        infer.find_weights(tmp_path / "voc-fcn-pool4")
    assert "prepare.py" not in str(caught.value) and "http" not in str(caught.value)
