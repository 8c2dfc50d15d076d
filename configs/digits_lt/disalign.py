_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="DisAlign",
    representation=dict(type="plain"),
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/disalign.json.
    classifier=dict(type="disalign", rho=1.2, recipe=dict(lr=0.02)),
)
