_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="Range Loss",
    representation=dict(type="range_loss"),
    classifier=dict(type="kept"),
)
