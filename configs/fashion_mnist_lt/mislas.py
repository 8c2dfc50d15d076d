_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="MiSLAS",
    # As released for CIFAR-10-LT, which has ten classes and this imbalance, too.
    representation=dict(type="mixup"),
    classifier=dict(
        type="mislas",
        smooth_head=0.3,
        smooth_tail=0.0,
        head_lr_factor=0.5,
        shift_bn=False,
        recipe=dict(lr=0.1, weight_decay=2e-4),
    ),
)
