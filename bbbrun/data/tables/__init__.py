"""Tables of columns: read, split into parts, and made inputs of a network by a form kept as plain data."""
