_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="MiSLAS",
    representation=dict(type="mixup", alpha=0.1),  # that of the Mixup row
    # Searched on validation, three seeds: leaderboards/searches/digits_lt/mislas.json. No smoothing of the
    # rarest class is the released CIFAR-10-LT config's, which also has ten classes.
    classifier=dict(type="mislas", smooth_head=0.1, smooth_tail=0.0, head_lr_factor=0.5, shift_bn=True),
)
