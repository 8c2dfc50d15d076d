# Three experts with second and third stages of their own, of 3/4 of the channels, as in RIDE's ResNet-32.
model = dict(backbone=dict(type="expert_cifar_resnet", depth=8, in_channels=1, experts=3, channel_ratio=0.75))
