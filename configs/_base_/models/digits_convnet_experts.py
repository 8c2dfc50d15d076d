# Three experts with second and third layers of their own, of 3/4 of the channels.
model = dict(backbone=dict(type="expert_convnet", in_channels=1, width=16, experts=3, channel_ratio=0.75))
