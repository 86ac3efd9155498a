"""A run is a folder: its writer (one process, locked), its reader, its identity, and the jobs of `bbbrun reproduce`."""
