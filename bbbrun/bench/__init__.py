"""Times one step, ours beside eager PyTorch and other packages; only its verb imports it."""
