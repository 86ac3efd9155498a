"""What a short run loads: of torch and the other packages no part that it does not use."""

import json
import os
import subprocess
import sys

import pytest

# A fork for each command, as loading torch takes longest.
SCRIPT = """
import json, os, sys
import bbbrun.runner, bbbrun.verbs.train
from bbbrun.cli import main
for number, words in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        sys.argv[1:] = words
        try:
            main()
        finally:
            with open(f"loaded{number}.json", "w") as file:
                json.dump(sorted(sys.modules), file)
            os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")
def test_a_run_that_does_not_compile_loads_no_compiler_and_no_scikit_learn(tmp_path):
    short = ["network.hidden=[4]", "train.epochs=1", "compile=false", "threads=1"]
    commands = [["experiment=digits", *short], ["experiment=regression", *short], ["method=mle", *short]]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", SCRIPT, json.dumps(commands)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert result.stderr.count("finished: ") == len(commands), result.stderr
    for number in range(len(commands)):
        loaded = set(json.loads((tmp_path / f"loaded{number}.json").read_text()))
        assert "torch" in loaded
        assert ("matplotlib" in loaded) == (number == 1)  # the regression draws its predictive
        assert not loaded & {"torch._dynamo", "torch._inductor", "torchvision", "torch.onnx", "sklearn", "scipy"}
