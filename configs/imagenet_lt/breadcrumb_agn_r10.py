_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="Breadcrumb (agn.)",
    representation=dict(type="plain"),
    classifier=dict(type="breadcrumb", variant="strong", alignment="class_agnostic"),
)
