# ImageNet-LT (Liu et al., OLTR, 2019): 115,846 / 20,000 / 50,000 images of 1000 classes, 5 to 1280 a class.
# Validation is drawn from ImageNet's training images, test is ILSVRC's validation set; figures are of test.
# Augmentation of Decoupling (Kang et al., 2020) and of Breadcrumb's released code; workers decode and
# crop, the device does the rest.
dataset = dict(type="imagenet_lt", root=None)
convention = "paper"
normalize = dict(type="batch_normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_transforms = [
    dict(type="RandomResizedCrop", size=224),
    dict(type="batch_random_flip"),
    dict(type="batch_color_jitter", brightness=0.4, contrast=0.4, saturation=0.4),
    normalize,
]
test_transforms = [dict(type="Resize", size=256), dict(type="CenterCrop", size=224), normalize]
del normalize
