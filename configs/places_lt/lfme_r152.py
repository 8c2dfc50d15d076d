_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/lfme_90e.py",
]
method = dict(
    label="Distill (LFME)",
    representation=dict(type="lfme"),
    classifier=dict(type="kept"),
)
