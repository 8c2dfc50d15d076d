model = dict(backbone=dict(type="cifar_resnet", depth=8, in_channels=1))
