_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="Balanced Softmax",
    representation=dict(type="balanced_softmax"),
    classifier=dict(type="kept"),
)
