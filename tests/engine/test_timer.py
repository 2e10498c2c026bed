"""caffe.Timer."""

import logging
import time

import caffe
import pytest


@pytest.fixture
def warnings(caplog):
    logger = logging.getLogger("caffe")
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def test_it_measures_milliseconds_between_start_and_stop():
    timer = caffe.Timer()
    began = time.perf_counter()
    timer.start()
    time.sleep(0.02)
    timer.stop()
    around = (time.perf_counter() - began) * 1e3
    assert 20 <= timer.ms <= around
    time.sleep(0.001)
    assert timer.ms == timer.ms  # it stands still


def test_reading_stops_a_running_timer_and_it_can_start_again():
    timer = caffe.Timer()
    timer.start()
    first = timer.ms
    time.sleep(0.002)
    timer.stop()  # stands already
    assert timer.ms == first
    timer.start()
    time.sleep(0.002)
    timer.start()  # runs already: goes on
    assert timer.ms >= 2


def test_one_that_never_ran_reads_0_with_a_warning(warnings):
    assert caffe.Timer().ms == 0
    assert "Timer has never been run before reading time." in warnings.text


@pytest.mark.gpu
@pytest.mark.skipif(caffe.device_count() == 0, reason="no CUDA device")
def test_on_a_gpu_it_waits_for_the_work_given_before_stop():
    import torch

    caffe.set_mode_gpu()
    x = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    timer = caffe.Timer()
    timer.start()
    for _ in range(50):
        x = x @ x * 1e-2
    timer.stop()
    assert timer.ms > 50 * 2 * 4096**3 / 1e15 * 1e3  # not faster than 1000 TFLOP/s: the work is done
