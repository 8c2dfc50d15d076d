_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="cRT",
    representation=dict(type="plain"),
    # Released: lr 0.1 at batch 256; here 0.2 at 512, as elsewhere.
    classifier=dict(type="crt"),
)
