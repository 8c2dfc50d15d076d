_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/oltr_places_30e.py",
]
# OLTR trains the whole pretrained backbone in stage 1.
model = dict(backbone=dict(frozen_stages=-1))
method = dict(
    label="OLTR",
    representation=dict(type="plain"),
    # The released Places-LT recipe: attention and head are trained, the backbone is frozen.
    classifier=dict(
        type="oltr",
        epochs=30,
        step=10,
        batch_size=128,
        backbone_lr=1e-4,
        head_lr=0.01,
        train_backbone=False,
    ),
)
