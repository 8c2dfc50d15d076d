_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Logit adjustment (post hoc)",
    representation=dict(type="plain"),
    classifier=dict(type="kept"),
    prediction=dict(type="logit_adjusted"),
)
