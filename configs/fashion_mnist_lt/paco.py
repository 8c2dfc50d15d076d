_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray.py",
    "../_base_/schedules/fashion_30e.py",
]
normalize = dict(type="batch_normalize", mean=[72.94], std=[90.02])
crop = dict(type="batch_random_crop", padding=2)
flip = dict(type="batch_random_flip")
# Of the released codes' contrastive views, what a grey image can have.
jitter = dict(type="batch_color_jitter", brightness=0.4, contrast=0.4, probability=0.8)
contrasted = [crop, flip, jitter, normalize]
train_transforms = [dict(type="batch_views", views=[[crop, flip, normalize], contrasted])]
del normalize, crop, flip, jitter, contrasted
# Learning rate of the released script for CIFAR-100-LT.
stage1 = dict(recipe=dict(name="PaCo"), optimizer=dict(lr=0.02))
method = dict(
    label="PaCo",
    representation=dict(type="paco"),
    classifier=dict(type="kept"),
)
