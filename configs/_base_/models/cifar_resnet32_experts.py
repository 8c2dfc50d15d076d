# RIDE's ResNet-32: three experts with second and third stages of their own, of 3/4 of the channels.
model = dict(backbone=dict(type="expert_cifar_resnet", depth=32, experts=3, channel_ratio=0.75))
