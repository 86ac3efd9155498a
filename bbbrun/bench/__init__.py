"""Times one step, ours beside eager PyTorch and the peers; nothing imports it but its verb."""
