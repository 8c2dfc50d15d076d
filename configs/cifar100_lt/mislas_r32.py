_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
# As released, stage 1 is divided by 10 at 160 and at 180, where the plain recipe divides by 100.
stage1 = dict(
    recipe=dict(name="MiSLAS", epochs=200),
    schedule=[
        dict(type="LinearLR", start_factor=0.2, by_epoch=True, begin=0, end=5),
        dict(type="MultiStepLR", milestones=[160, 180], gamma=0.1, by_epoch=True),
    ],
)
# lr and weight decay of stage 2 are those of the released CIFAR-100-LT config (imbalance 100), which also
# has 10 epochs, batch 128 and alpha = 1 of mixup.
method = dict(
    label="MiSLAS",
    representation=dict(type="mixup"),
    classifier=dict(type="mislas", recipe=dict(lr=0.1, weight_decay=2e-4)),
)
