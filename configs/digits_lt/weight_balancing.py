_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
# Weight decay of stage 1 and threshold of MaxNorm: searched on validation, three seeds:
# leaderboards/searches/digits_lt/weight_balancing.json. The rest of stage 2 is as on CIFAR-100-LT, but
# for the dataset's batch.
stage1 = dict(recipe=dict(name="weight balancing"), optimizer=dict(weight_decay=5e-3))
method = dict(
    label="Weight balancing",
    representation=dict(type="plain"),
    classifier=dict(
        type="weight_balancing",
        threshold=0.1,
        recipe=dict(batch_size=32, lr=0.01, weight_decay=0.1),
    ),
)
