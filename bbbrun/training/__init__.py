"""How weights move: the task's contract, optimizers, the step, the trainer, the loop."""
