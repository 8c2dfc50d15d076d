_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
# Ten times the weight decay of the plain recipe in stage 1, and its stage 2 as on CIFAR-100-LT.
stage1 = dict(optimizer=dict(weight_decay=5e-3))
method = dict(
    label="Weight balancing",
    representation=dict(type="plain"),
    classifier=dict(type="weight_balancing", recipe=dict(lr=0.01, weight_decay=0.1)),
)
