_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Focal",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/focal.json.
    representation=dict(type="focal", gamma=1.0),
    classifier=dict(type="kept"),
)
