_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="RIDE (3 experts)",
    representation=dict(type="ride"),
    classifier=dict(type="kept"),
)
