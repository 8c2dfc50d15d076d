_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
method = dict(
    label="Lifted Loss",
    # The weight is the default: no release states one, none is tuned here.
    representation=dict(type="lifted"),
    classifier=dict(type="kept"),
)
