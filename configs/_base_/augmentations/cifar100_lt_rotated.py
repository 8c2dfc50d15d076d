# CIFAR-100-LT with the training augmentation of the released RIDE and SADE code, which rotates too.
_base_ = "../datasets/cifar100_lt.py"
train_transforms = [
    dict(type="batch_random_crop", padding=4),
    dict(type="batch_random_flip"),
    dict(type="batch_random_rotation", degrees=15),
    dict(type="batch_normalize", mean=[125.307, 122.950, 113.865], std=[62.993, 62.089, 66.705]),
]
