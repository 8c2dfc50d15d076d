_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="RIDE (3 experts)",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/ride.json.
    representation=dict(type="ride", diversity_factor=0.1),
    classifier=dict(type="kept"),
)
