model = dict(backbone=dict(type="small_convnet", in_channels=1, width=16))
