# CIFAR-10-LT, imbalance factor 10: the draw of LDAM-DRW, N = 20,431.
configs_of = "cifar100_lt"
dataset = dict(type="cifar10_lt", imbalance_factor=10)
