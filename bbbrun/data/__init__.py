"""Data sets as whole tensors: found or downloaded, checked by digest, read."""
