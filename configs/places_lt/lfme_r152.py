_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/lfme_90e.py",
]
method = dict(
    label="Distill (LFME)",
    # The released groups.
    representation=dict(type="lfme", convention="inclusive"),
    classifier=dict(type="kept"),
)
