# CIFAR-100-LT, imbalance factor 100: the draw of Cao et al. (LDAM-DRW, 2019), N = 10,847.
# Normalised by CIFAR-10's own deviations over all pixels; released codes divide by 0.2023, 0.1994, 0.2010.
# Validation: up to 20 training images a class that the draw left over (class 0 keeps all of its own).
dataset = dict(type="cifar100_lt", root=None, imbalance_factor=100, val_per_class=20)
convention = "strict"
normalize = dict(type="batch_normalize", mean=[125.307, 122.950, 113.865], std=[62.993, 62.089, 66.705])
train_transforms = [
    dict(type="batch_random_crop", padding=4),
    dict(type="batch_random_flip"),
    normalize,
]
test_transforms = [normalize]
del normalize
