_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Range Loss",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/range_loss.json.
    representation=dict(type="range_loss", alpha=0.01, margin=1.0),
    classifier=dict(type="kept"),
)
