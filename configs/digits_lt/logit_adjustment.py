_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Logit adjustment (loss)",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/logit_adjustment.json.
    representation=dict(type="logit_adjustment", tau=1.0),
    classifier=dict(type="kept"),
)
