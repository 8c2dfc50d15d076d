_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="Logit adjustment (post hoc)",
    representation=dict(type="plain"),
    classifier=dict(type="kept"),
    prediction=dict(type="logit_adjusted"),
)
