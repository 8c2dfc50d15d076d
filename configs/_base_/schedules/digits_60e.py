stage1 = dict(
    recipe=dict(name="digits", epochs=60),
    epochs=60,
    batch_size=32,
    optimizer=dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=5e-4, foreach=True),
    schedule=[dict(type="CosineAnnealingLR", T_max=60, by_epoch=True)],
    numerics=dict(precision="fp32", channels_last=False, threads=1),
)
classifier_recipe = dict(epochs=10, batch_size=32, lr=0.05, momentum=0.9, weight_decay=5e-4)
snapshots = dict(keep="all", dtype="float32", capture="training_forward")
