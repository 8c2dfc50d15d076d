_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="Focal",
    representation=dict(type="focal", gamma=2.0),
    classifier=dict(type="kept"),
)
