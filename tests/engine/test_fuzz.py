"""Damaged files of every kind are read or refused with CaffeError: no crash, no hang, no flood of memory.

The normal run tries a few hundred inputs. The long one takes as many as the environment says, each
kind its share (ten thousand in about a minute):

    FUZZ=10000 python -m pytest tests/engine/test_fuzz.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = [
    "caffemodel,old caffemodel,text model",
    "HDF5 model,solverstate,HDF5 state",
    "prototxt,old prototxt,solver",
]
INPUTS = -(-int(os.environ.get("FUZZ", "450")) // 9)  # of each kind
CHILD = Path(__file__).with_name("fuzz_files.py")


@pytest.mark.timeout(120 + INPUTS)
@pytest.mark.parametrize("kinds", KINDS)
def test_damaged_files_are_read_or_refused(kinds, tmp_path):
    child = subprocess.Popen(
        [sys.executable, str(CHILD), kinds, str(INPUTS), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    number = tmp_path / "number"
    try:
        out, errors = child.communicate(timeout=100 + INPUTS)
    except subprocess.TimeoutExpired:
        child.kill()
        pytest.fail(f"input {number.read_text()} hangs")
    under_way = number.read_text() if number.exists() else "none"
    assert child.returncode == 0, f"input {under_way}: exit {child.returncode}\n{errors[-2000:]}"
    lines = out.splitlines()
    ends = [line.split() for line in lines if line.startswith("done ")]
    assert len(lines) == len(ends) == 3, out
    for _, count, refused in ends:
        assert int(count) == INPUTS and int(refused) > INPUTS / 3, out


MEMORY = """
import os, random, sys
os.environ["GLOG_minloglevel"] = "3"
sys.path.insert(0, os.path.dirname(sys.argv[3]))
import caffe
from fuzz_files import mutated

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))

kind, folder, _ = sys.argv[1:]
with open(folder + "/net", "w") as file:
    file.write('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1000 } } } layer { '
               'name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1000 } }')
form = "HDF5" if "HDF5" in kind else "BINARYPROTO"
with open(folder + "/solver", "w") as file:
    file.write(f'train_net: "{folder}/net" snapshot_prefix: "{folder}/s" base_lr: 1 lr_policy: "fixed" '
               f'snapshot_format: {form}')
solver = caffe.get_solver(folder + "/solver")
solver.net.params["fc"][0].data[...] = 1
for blob in solver.history:
    blob.data[...] = 2
solver.snapshot()
ending = ".h5" if form == "HDF5" else ""
name = f"{folder}/s_iter_0.{'solverstate' if 'state' in kind else 'caffemodel'}{ending}"
path = folder + "/input"
read = [solver.restore] if "state" in kind else [solver.net.copy_from, caffe.caffemodel.shapes, caffe.upgrade.read_net]
if kind == "HDF5 model":
    read.pop()
size = os.path.getsize(name)
read[0](name)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = status("VmRSS")
for number in range(40):
    with open(name, "rb") as file:  # damage goes where the numbers are not
        head, middle, tail = file.read(size - 3_999_000), file.read(3_980_000), file.read()
    draw = random.Random(number)
    if number % 2:
        head = mutated(draw, head, False)
    else:
        tail = mutated(draw, tail, False)
    with open(path, "wb") as file:
        file.writelines((head, middle, tail))
    del head, middle, tail
    for job in read:
        try:
            job(path)
        except caffe.CaffeError:
            pass
print(size, status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["caffemodel", "solverstate", "HDF5 model", "HDF5 state"])
def test_damaged_files_of_megabytes_take_at_most_4_times_their_size(kind, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, kind, str(tmp_path), str(CHILD)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    size, peak = map(int, done.stdout.split())
    assert size > 4e6 and peak <= 4 * size, f"{peak / size:.1f} times the file"
