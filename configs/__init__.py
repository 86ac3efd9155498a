"""The YAML files of bbbrun, shipped as the package `bbbrun.configs`."""
