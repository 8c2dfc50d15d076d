_base_ = [
    "../_base_/datasets/inaturalist2018.py",
    "../_base_/models/resnet50.py",
    "../_base_/schedules/decoupling_200e.py",
]
method = dict(
    label="CB-Focal",
    # β and γ of the paper on iNaturalist 2018 (Cui et al., 2019).
    representation=dict(type="cb_focal", beta=0.9999, gamma=1.0),
    classifier=dict(type="kept"),
)
