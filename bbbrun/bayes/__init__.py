"""The paper section by section as pure functions of tensors: no files but first weights, no outer configuration."""
