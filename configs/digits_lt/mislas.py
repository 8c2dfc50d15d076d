_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
# Smoothing and the classifier's rate are those of the released CIFAR-10-LT config, which also has ten
# classes; it keeps the batch statistics, which are shifted here as on the larger datasets.
method = dict(
    label="MiSLAS",
    representation=dict(type="mixup", alpha=0.1),  # that of the Mixup row
    classifier=dict(type="mislas", smooth_head=0.3, smooth_tail=0.0, head_lr_factor=0.5),
)
