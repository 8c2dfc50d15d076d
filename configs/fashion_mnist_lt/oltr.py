_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="OLTR",
    # The released ImageNet-LT recipe; the 64 dimensions are the backbone's.
    representation=dict(type="plain"),
    classifier=dict(type="oltr", hidden=64, batch_size=128, backbone_lr=0.01, head_lr=0.1),
)
