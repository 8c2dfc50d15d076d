# Fashion-MNIST with the exponential profile of CIFAR-LT, imbalance factor 100: 6000 down to 60 images.
dataset = dict(type="fashion_mnist_lt", root=None, imbalance_factor=100, val_per_class=20)
convention = "strict"
normalize = dict(type="batch_normalize", mean=[72.94], std=[90.02])
train_transforms = [
    dict(type="batch_random_crop", padding=2),
    dict(type="batch_random_flip"),
    normalize,
]
test_transforms = [normalize]
del normalize
