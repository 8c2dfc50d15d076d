_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Mixup",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/mixup.json.
    representation=dict(type="mixup", alpha=0.1),
    classifier=dict(type="kept"),
)
