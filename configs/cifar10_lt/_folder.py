# CIFAR-10-LT, imbalance factor 100: the draw of LDAM-DRW, N = 12,406.
configs_of = "cifar100_lt"
dataset = dict(type="cifar10_lt")
