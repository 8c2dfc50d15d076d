_base_ = [
    "../_base_/datasets/inaturalist2018.py",
    "../_base_/models/resnet50.py",
    "../_base_/schedules/decoupling_200e.py",
]
method = dict(
    label="LWS",
    representation=dict(type="plain"),
    classifier=dict(type="lws", recipe=dict(epochs=5)),
)
