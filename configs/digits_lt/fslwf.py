_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
# No activation after the last layer: cosine classifiers want features of both signs.
model = dict(backbone=dict(last_relu=False))
method = dict(
    label="FSLwF",
    representation=dict(type="fslwf"),
    # 200 episodes an epoch in the place of the released 4000, so that fitting takes seconds.
    classifier=dict(type="fslwf_generator", episodes=200),
)
