_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
# The released CIFAR-100-LT settings (imbalance 100): in stage 1 weight decay 5e-3 at lr 0.01 and batch 64
# with a cosine to 0 (320 epochs of a ResNet-34 there), in stage 2 weight decay 0.1 at lr 0.01, batch 64.
stage1 = dict(
    recipe=dict(name="weight balancing", epochs=200),
    batch_size=64,
    optimizer=dict(lr=0.01, weight_decay=5e-3),
    schedule=[dict(type="CosineAnnealingLR", T_max=200, by_epoch=True)],
)
method = dict(
    label="Weight balancing",
    representation=dict(type="plain"),
    classifier=dict(type="weight_balancing", recipe=dict(batch_size=64, lr=0.01, weight_decay=0.1)),
)
