# ResNet-50, from scratch.
model = dict(
    backbone=dict(type="mmpretrain.ResNet", depth=50, zero_init_residual=False),
    feature_dim=2048,
)
