_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="LDAM-DRW",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/ldam.json.
    representation=dict(type="ldam", max_margin=0.3, deferred=0.6),
    classifier=dict(type="kept"),
)
