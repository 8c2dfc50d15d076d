_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Logit adjustment (loss)",
    representation=dict(type="logit_adjustment"),
    classifier=dict(type="kept"),
)
