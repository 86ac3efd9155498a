"""Many runs at once: a sweep's jobs are given to a launcher of Hydra's, watched, and gone on with."""
