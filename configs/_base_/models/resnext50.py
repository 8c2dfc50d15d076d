# ResNeXt-50 32x4d, from scratch.
model = dict(
    backbone=dict(
        type="mmpretrain.ResNeXt", depth=50, groups=32, width_per_group=4, zero_init_residual=False
    ),
    feature_dim=2048,
)
