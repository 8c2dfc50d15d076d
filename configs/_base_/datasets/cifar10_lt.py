# CIFAR-10-LT, imbalance factor 100: the draw of Cao et al. (LDAM-DRW, 2019), N = 12,406.
# Validation: 20 training images a class that the draw left over (class 0 keeps all of its own).
_base_ = ["cifar100_lt.py"]
dataset = dict(type="cifar10_lt")
