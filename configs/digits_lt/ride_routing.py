_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="RIDE (3 experts) + EA",
    representation=dict(type="ride", diversity_factor=0.1),  # that of the RIDE row
    # The released learning rate, 0.01 at batch 512, is for thousands of images; these are 460.
    classifier=dict(type="ride_routing", recipe=dict(batch_size=32, lr=0.01)),
)
