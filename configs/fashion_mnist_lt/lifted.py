_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
method = dict(
    label="Lifted Loss",
    # The weight is the default: no release states one, none is tuned here.
    representation=dict(type="lifted"),
    classifier=dict(type="kept"),
)
