_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
# No activation after the last layer: cosine classifiers want features of both signs.
model = dict(backbone=dict(last_relu=False))
method = dict(
    label="FSLwF",
    # There is no few-shot class here: the two medium-shot classes, of 100 and 60 images, are the novel ones.
    representation=dict(type="fslwf"),
    classifier=dict(type="fslwf_generator", novel_groups=("medium",)),
)
