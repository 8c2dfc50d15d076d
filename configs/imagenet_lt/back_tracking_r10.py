_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="+ back-tracking",
    representation=dict(type="plain"),
    # Snapshots of the last 10 epochs of every class (section 5.2).
    classifier=dict(type="breadcrumb", variant="weak", alignment="none", class_specific=False, length=10),
)
