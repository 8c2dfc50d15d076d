_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="OLTR",
    representation=dict(type="plain"),
    # The released rates .01 and .1 are for batch 128: batch and rate go together. The 64 dimensions are the
    # backbone's, and 30 epochs in the place of the released 60 keep fitting to seconds.
    classifier=dict(
        type="oltr",
        hidden=64,
        epochs=30,
        batch_size=32,
        backbone_lr=0.0025,
        head_lr=0.025,
        memory_lr=0.0025,
    ),
)
