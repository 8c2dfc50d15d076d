_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/lfme_90e.py",
]
method = dict(
    label="Distill (LFME)",
    # The released groups.
    representation=dict(type="lfme", convention="inclusive"),
    classifier=dict(type="kept"),
)
