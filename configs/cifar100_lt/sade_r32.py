_base_ = [
    "../_base_/augmentations/cifar100_lt_rotated.py",
    "../_base_/models/cifar_resnet32_experts.py",
    "../_base_/schedules/cifar_200e.py",
]
# The released CIFAR-100-LT configuration: rotation, weight decay 5e-4, Nesterov momentum, divided by 10 at
# 160 and again at 180.
stage1 = dict(
    recipe=dict(name="SADE", epochs=200),
    optimizer=dict(weight_decay=5e-4, nesterov=True),
    schedule=[
        dict(type="LinearLR", start_factor=0.2, by_epoch=True, begin=0, end=5),
        dict(type="MultiStepLR", milestones=[160, 180], gamma=0.1, by_epoch=True),
    ],
)
method = dict(
    label="SADE",
    representation=dict(type="sade"),
    classifier=dict(type="kept"),
)
