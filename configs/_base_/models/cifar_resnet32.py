model = dict(backbone=dict(type="cifar_resnet", depth=32))
