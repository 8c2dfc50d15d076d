_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="SADE",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/sade.json.
    representation=dict(type="sade", tau=2.0),
    classifier=dict(type="kept"),
)
