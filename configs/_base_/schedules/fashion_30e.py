stage1 = dict(
    recipe=dict(name="fashion", epochs=30),
    epochs=30,
    batch_size=128,
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4, foreach=True),
    schedule=[dict(type="CosineAnnealingLR", T_max=30, by_epoch=True)],
    numerics=dict(precision="fp32", channels_last=True),
)
classifier_recipe = dict(epochs=10, batch_size=128, lr=0.05, momentum=0.9, weight_decay=5e-4)
snapshots = dict(keep="all", dtype="float16", capture="training_forward")
