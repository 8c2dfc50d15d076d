_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="Plain",
    representation=dict(type="plain"),
    classifier=dict(type="kept"),
)
