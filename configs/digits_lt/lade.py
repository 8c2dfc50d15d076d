_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="LADE",
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/lade.json.
    representation=dict(type="lade", remine_lambda=0.01, estim_loss_weight=1.0),
    classifier=dict(type="kept"),
)
