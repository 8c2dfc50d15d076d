_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="OLTR",
    representation=dict(type="plain"),
    # The released ImageNet-LT recipe: 60 epochs, divided by 10 every 20, batch 128.
    classifier=dict(type="oltr", epochs=60, step=20, batch_size=128, backbone_lr=0.01, head_lr=0.1),
)
