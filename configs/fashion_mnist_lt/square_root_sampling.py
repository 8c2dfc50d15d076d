_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="Square-root sampling",
    representation=dict(type="plain", sampler=dict(type="square_root")),
    classifier=dict(type="kept"),
)
