# Places-LT (Liu et al., OLTR, 2019), the public split: 62,500 / 7,300 / 36,500 images of 365 classes, 5 to
# 4980 a class; the 184.5K of the Breadcrumb paper is not its size. Augmented like ImageNet-LT, as in
# Decoupling.
_base_ = ["imagenet_lt.py"]
dataset = dict(type="places_lt")
