"""The paper section by section as pure functions of tensors: no files, no configuration beyond its own options."""
