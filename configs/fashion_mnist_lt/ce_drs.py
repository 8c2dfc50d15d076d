_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="CE-DRS",
    representation=dict(
        type="plain",
        sampler=dict(
            type="deferred",
            first=dict(type="instance"),
            then=dict(type="class_balanced"),
            fraction=0.8,
        ),
    ),
    classifier=dict(type="kept"),
)
