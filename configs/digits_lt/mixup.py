_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="Mixup",
    representation=dict(type="mixup"),
    classifier=dict(type="kept"),
)
