_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="Strong Breadcrumb",
    representation=dict(type="plain"),
    classifier=dict(type="breadcrumb", variant="strong", alignment="mean"),
)
