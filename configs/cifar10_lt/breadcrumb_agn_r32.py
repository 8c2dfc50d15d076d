_base_ = [
    "../_base_/datasets/cifar10_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="Breadcrumb (agn.)",
    representation=dict(type="plain"),
    classifier=dict(type="breadcrumb", variant="strong", alignment="class_agnostic"),
)
