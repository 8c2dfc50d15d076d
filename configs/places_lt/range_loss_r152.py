_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="Range Loss",
    representation=dict(type="range_loss"),
    classifier=dict(type="kept"),
)
