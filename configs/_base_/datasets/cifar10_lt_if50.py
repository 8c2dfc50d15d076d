# CIFAR-10-LT at imbalance factor 50.
_base_ = ["cifar10_lt.py"]
dataset = dict(imbalance_factor=50)
