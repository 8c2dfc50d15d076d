_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="+ class-specific",
    representation=dict(type="plain"),
    # K_j = ceil(n_B / n_j) snapshots of class j, n_B = 116: up to 24.
    classifier=dict(type="breadcrumb", variant="weak", alignment="none"),
)
