# CIFAR-10-LT at imbalance factor 10.
_base_ = ["cifar10_lt.py"]
dataset = dict(imbalance_factor=10)
