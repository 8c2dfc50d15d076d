_base_ = [
    "../_base_/datasets/cifar10_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="+ back-tracking",
    representation=dict(type="plain"),
    classifier=dict(type="breadcrumb", variant="weak", alignment="none", class_specific=False, length=10),
)
