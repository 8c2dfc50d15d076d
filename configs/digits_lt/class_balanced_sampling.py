_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Class-balanced sampling",
    representation=dict(type="plain", sampler=dict(type="class_balanced")),
    classifier=dict(type="kept"),
)
