# CIFAR-100-LT at imbalance factor 50.
_base_ = ["cifar100_lt.py"]
dataset = dict(imbalance_factor=50)
