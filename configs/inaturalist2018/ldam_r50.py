_base_ = [
    "../_base_/datasets/inaturalist2018.py",
    "../_base_/models/resnet50.py",
    "../_base_/schedules/decoupling_200e.py",
]
method = dict(
    label="LDAM-DRW",
    # Re-weighted from 80% of the epochs on, as on CIFAR: the last 40 of 200.
    representation=dict(type="ldam"),
    classifier=dict(type="kept"),
)
