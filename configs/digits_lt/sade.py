_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="SADE",
    representation=dict(type="sade"),
    classifier=dict(type="kept"),
)
