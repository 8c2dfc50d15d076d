# CIFAR-100-LT, imbalance factor 10: the draw of LDAM-DRW, N = 19,573.
configs_of = "cifar100_lt"
dataset = dict(imbalance_factor=10)
