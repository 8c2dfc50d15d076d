_base_ = [
    "../_base_/augmentations/cifar100_lt_rotated.py",
    "../_base_/models/cifar_resnet32_experts.py",
    "../_base_/schedules/cifar_200e.py",
]
# The released CIFAR-100-LT configuration: rotation, weight decay 5e-4 and Nesterov momentum.
stage1 = dict(
    recipe=dict(name="RIDE", epochs=200),
    optimizer=dict(weight_decay=5e-4, nesterov=True),
)
method = dict(
    label="RIDE (3 experts)",
    representation=dict(type="ride"),
    classifier=dict(type="kept"),
)
