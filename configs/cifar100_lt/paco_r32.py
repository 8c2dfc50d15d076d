_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32.py",
    "../_base_/schedules/cifar_200e.py",
]
# Jitter and greying of the released code's second view.
normalize = dict(type="batch_normalize", mean=[125.307, 122.950, 113.865], std=[62.993, 62.089, 66.705])
crop = dict(type="batch_random_crop", padding=4)
flip = dict(type="batch_random_flip")
jitter = dict(
    type="batch_color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, probability=0.8
)
contrasted = [crop, flip, jitter, dict(type="batch_grayscale", probability=0.2), normalize]
train_transforms = [dict(type="batch_views", views=[[crop, flip, normalize], contrasted])]
del normalize, crop, flip, jitter, contrasted
# Learning rate and weight decay of the released script for this dataset.
stage1 = dict(recipe=dict(name="PaCo"), optimizer=dict(lr=0.02, weight_decay=5e-4))
method = dict(
    label="PaCo",
    representation=dict(type="paco"),
    classifier=dict(type="kept"),
)
