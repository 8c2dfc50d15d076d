_base_ = [
    "../_base_/datasets/inaturalist2018.py",
    "../_base_/models/resnet50.py",
    "../_base_/schedules/decoupling_200e.py",
]
method = dict(
    label="CB-Focal",
    # β and γ of the released script for iNaturalist 2018; the rest of the recipe is Decoupling's.
    representation=dict(type="cb_focal", beta=0.999, gamma=0.5),
    classifier=dict(type="kept"),
)
