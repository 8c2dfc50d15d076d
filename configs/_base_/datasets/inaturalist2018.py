# iNaturalist 2018, the public split: 437,513 / 24,426 images of 8,142 classes (the Breadcrumb paper says
# 8141), 2 to 1000 a class; the validation images are the test split, and there is no other to choose on.
# Decoupling (Kang et al., 2020): no jitter, and mean and deviation of its own.
dataset = dict(type="inaturalist2018", root=None)
convention = "paper"
# .466/.471/.380 and .195/.194/.192 of the range from 0 to 1.
normalize = dict(type="batch_normalize", mean=[118.83, 120.105, 96.9], std=[49.725, 49.47, 48.96])
train_transforms = [
    dict(type="RandomResizedCrop", size=224),
    dict(type="batch_random_flip"),
    normalize,
]
test_transforms = [dict(type="Resize", size=256), dict(type="CenterCrop", size=224), normalize]
del normalize
