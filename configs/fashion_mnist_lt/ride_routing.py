_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray_experts.py",
    "../_base_/schedules/fashion_30e.py",
]
# As on CIFAR-100-LT: Nesterov momentum.
stage1 = dict(recipe=dict(name="fashion, Nesterov momentum"), optimizer=dict(nesterov=True))
method = dict(
    label="RIDE (3 experts) + EA",
    representation=dict(type="ride"),
    classifier=dict(type="ride_routing"),
)
