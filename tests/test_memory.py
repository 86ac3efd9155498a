"""The memory of a training, in arrays of the size of its weights."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import gc, re
from pathlib import Path
import torch
from omegaconf import OmegaConf
from bbbrun.schema.config import composed
from bbbrun.bayes.networks import mlp
from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.methods import drawn
from bbbrun.bayes.predictive import class_probabilities, posterior_predictive
from bbbrun.training.task import Problem
from bbbrun.training.trainer import Trainer

def memory(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
config = OmegaConf.to_object(composed(["experiment=mnist", "compile=true"]))
network = mlp(784, [1200, 1200], 10)
inputs, labels = torch.rand(1280, 784), torch.arange(1280) % 10
trainer = Trainer.of([config], [Problem(inputs, labels, network, categorical)], torch.device("cpu"), 3)

def steps():
    trainer.begin_epoch(0)
    trainer.steps(trainer.minibatches)

def predict():
    class_probabilities(network, trainer.parameters()[0], inputs)
    posterior_predictive(network, drawn(trainer.method, network, trainer.parameters(), trainer.draws(0, 3)), inputs)

parts = [steps, trainer.objective, predict]
for part in parts:
    part()  # compiles
for part in parts:
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    part()
    print((memory("VmHWM") - before) / (4 * network.size))
"""
_STATE = 6  # mu, rho and Adam's four
# glibc gives each larger block back as it is freed, so that the peak is what was in use at once: in a training, where
# it keeps them, it also depends on where the holes happen to lie.
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_steps_and_evaluations_of_the_largest_network_use_ten_arrays_of_its_weights_at_most():
    environment = os.environ | _GIVE_BACK
    ran = subprocess.run([sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    peaks = [_STATE + float(line) for line in ran.stdout.split()]
    assert len(peaks) == 3
    assert max(peaks) <= 10
