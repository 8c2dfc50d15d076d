_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
# No activation after the last block: cosine classifiers want features of both signs.
model = dict(backbone=dict(last_relu=False))
method = dict(
    label="FSLwF",
    representation=dict(type="fslwf"),
    # The released recipe (5 exemplars, 4000 episodes, 6 epochs); the 70 many- and medium-shot classes scale
    # an episode to 44 fake-novel classes, 264 novel and 132 base queries.
    classifier=dict(type="fslwf_generator"),
)
