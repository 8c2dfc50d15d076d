"""Many runs: configs and seeds as jobs with a folder each, on this machine or as a SLURM array."""
