_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="CB-Focal",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/cb_focal.json.
    representation=dict(type="cb_focal", beta=0.999),
    classifier=dict(type="kept"),
)
