_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Lifted Loss",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/lifted.json.
    representation=dict(type="lifted", weight=0.3),
    classifier=dict(type="kept"),
)
