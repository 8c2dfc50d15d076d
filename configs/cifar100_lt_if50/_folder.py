# CIFAR-100-LT, imbalance factor 50: the draw of LDAM-DRW, N = 12,608.
configs_of = "cifar100_lt"
dataset = dict(imbalance_factor=50)
