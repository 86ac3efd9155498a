"""Published numbers: the paper's, and others'."""
