_base_ = [
    "../_base_/datasets/imagenet_lt.py",
    "../_base_/models/resnet10.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="FSLwF",
    representation=dict(type="fslwf"),
    # The released recipe: 5 exemplars, 250 fake-novel classes, 1500 novel and 750 base queries, 6 epochs of
    # 4000 episodes.
    classifier=dict(type="fslwf_generator"),
)
