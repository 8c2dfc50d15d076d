_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="DisAlign",
    representation=dict(type="plain"),
    classifier=dict(type="disalign"),
)
