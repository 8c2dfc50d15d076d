_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="LADE",
    # λ of the released command for this dataset.
    representation=dict(type="lade", remine_lambda=0.01),
    classifier=dict(type="kept"),
)
