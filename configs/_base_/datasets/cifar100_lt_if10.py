# CIFAR-100-LT at imbalance factor 10.
_base_ = ["cifar100_lt.py"]
dataset = dict(imbalance_factor=10)
