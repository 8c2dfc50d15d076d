_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnext50.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="OLTR",
    representation=dict(type="plain"),
    # The released ImageNet-LT recipe, which is for a ResNet-10.
    classifier=dict(type="oltr", epochs=60, step=20, batch_size=128, backbone_lr=0.01, head_lr=0.1),
)
