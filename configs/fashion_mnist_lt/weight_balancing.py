_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
# The released CIFAR-100-LT settings (imbalance 100): in stage 1 weight decay 5e-3 at lr 0.01 and batch 64
# with a cosine to 0, in stage 2 weight decay 0.1 at lr 0.01, batch 64.
stage1 = dict(
    recipe=dict(name="weight balancing"),
    batch_size=64,
    optimizer=dict(lr=0.01, weight_decay=5e-3),
)
method = dict(
    label="Weight balancing",
    representation=dict(type="plain"),
    classifier=dict(type="weight_balancing", recipe=dict(batch_size=64, lr=0.01, weight_decay=0.1)),
)
