_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="CB-CE",
    # β of CB-CE on CIFAR-100-LT in the gallery of Zhang et al. (Bag of Tricks, AAAI 2021).
    representation=dict(type="cb_ce", beta=0.9),
    classifier=dict(type="kept"),
)
