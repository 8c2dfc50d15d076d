_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/lfme_90e.py",
]
method = dict(
    label="Distill (LFME)",
    representation=dict(type="lfme"),
    classifier=dict(type="kept"),
)
