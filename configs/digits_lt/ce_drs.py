_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="CE-DRS",
    representation=dict(
        type="plain",
        sampler=dict(
            type="deferred",
            first=dict(type="instance"),
            then=dict(type="class_balanced"),
            fraction=0.8,
        ),
    ),
    classifier=dict(type="kept"),
)
