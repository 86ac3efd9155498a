"""What can be configured: a dataclass for each option, with its ranges; mirrors configs/ and imports no torch."""
