_base_ = [
    "../_base_/datasets/places_lt.py",
    "../_base_/models/resnet152_pretrained.py",
    "../_base_/schedules/decoupling_90e.py",
]
method = dict(
    label="FSLwF",
    representation=dict(type="fslwf"),
    # The released recipe (5 exemplars, 4000 episodes, 6 epochs); the 288 many- and medium-shot classes scale
    # an episode to 185 fake-novel classes, 1110 novel and 555 base queries.
    classifier=dict(type="fslwf_generator"),
)
