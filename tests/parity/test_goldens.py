"""Our engine against arrays that the original made (goldens/, made by goldens.py)."""

import caffe
import compare
import goldens
import numpy as np
import pytest
import worker

BOUND = 1e-5  # largest difference over largest value; measured: 1.2e-6
GPU_BOUND = 1e-4
EXACT = ("Dropout/0", 'filler/type: "uniform', 'filler/type: "xavier', "filler/xavier")

LAYERS, SOLVERS = (goldens.load(name) for name in goldens.SETS)


def jobs_of(name):
    return [pytest.param(job, id=job["name"]) for job in goldens.jobs_of(name)]


def draws(job):
    """Does the layer draw random numbers? On the GPU they are the GPU's own."""
    return job["phase"] == "TRAIN" and ('type: "Dropout"' in job["net"] or "STOCHASTIC" in job["net"])


def result_of(job):
    with np.errstate(all="ignore"):
        return goldens.kept(job, worker.KINDS[job["kind"]](job))


def test_every_job_has_its_golden_and_no_golden_is_left_over():
    assert {job["name"] for job in goldens.jobs_of("layers")} == set(LAYERS)
    assert {job["name"] for job in goldens.jobs_of("solvers")} == set(SOLVERS)


@pytest.mark.parametrize("job", jobs_of("layers"))
def test_a_layer_gives_what_the_original_gives(job):
    error, where = compare.worst(result_of(job), LAYERS[job["name"]])
    assert error <= BOUND, where


@pytest.mark.gpu
@pytest.mark.skipif(not caffe.device_count(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "job", [job for job in goldens.jobs_of("layers") if not draws(job)], ids=lambda job: job["name"]
)
def test_a_layer_on_the_gpu_gives_what_the_original_gives_on_the_cpu(job):
    caffe.set_mode_gpu()
    error, where = compare.worst(result_of(job), LAYERS[job["name"]])
    assert error <= GPU_BOUND, where


@pytest.mark.parametrize("job", jobs_of("solvers"))
def test_a_solver_walks_the_original_s_path(job):
    error, where = compare.worst(result_of(job), SOLVERS[job["name"]])
    assert error <= BOUND, where


@pytest.mark.parametrize("job", [job for job in goldens.jobs_of("layers") if job["name"].startswith(EXACT)])
def test_random_numbers_are_the_original_s_bit_for_bit(job):
    ours, original = result_of(job), LAYERS[job["name"]]
    drawn = [name for name in original if name.endswith("] data")] or list(original)
    for name in drawn:
        assert np.array_equal(ours[name], original[name]), name


@pytest.mark.parametrize("kind", ["Pooling", "LRN", "SoftmaxWithLoss", "Deconvolution"])
def test_a_broken_layer_is_caught(kind, monkeypatch):
    net = worker.open_net(
        worker.with_inputs(next(job for job in goldens.jobs_of("layers") if job["name"].startswith(kind))),
        caffe.TRAIN,
    )
    cls = type(net.layer_dict[kind.lower()])
    compute = cls.compute
    monkeypatch.setattr(cls, "compute", lambda self, *args: [top * 1.0002 for top in compute(self, *args)])
    jobs = [job for job in goldens.jobs_of("layers") if job["name"].startswith(f"{kind}/")]
    caught = [compare.worst(result_of(job), LAYERS[job["name"]])[0] > BOUND for job in jobs]
    assert sum(caught) > len(caught) / 2
