# CIFAR-10-LT, imbalance factor 50: the draw of LDAM-DRW, N = 13,996.
configs_of = "cifar100_lt"
dataset = dict(type="cifar10_lt", imbalance_factor=50)
