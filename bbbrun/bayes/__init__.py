"""The paper section by section as pure functions of tensors, with no configuration beyond its own options."""
