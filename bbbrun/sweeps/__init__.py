"""Many runs at once: a sweep's jobs are launched by Hydra, watched, continued and searched."""
