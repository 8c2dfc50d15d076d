_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="Class-balanced sampling",
    representation=dict(type="plain", sampler=dict(type="class_balanced")),
    classifier=dict(type="kept"),
)
