"""The overrides that make a digits run short."""

SHORT = {
    "stage1.epochs": 5,
    "runtime.checkpoint_interval": 1,
    "classifier_recipe.epochs": 2,
    # Few enough snapshots for the rarest class that a run of five epochs reaches trails.
    "dataset.imbalance_factor": 5,
    "convention": "strict",
}
