# A run at the size of a real dataset on generated images: what it takes, not how well it does.
dataset = dict(type="generated_lt", counts="imagenet_lt", image_size=8)
convention = "strict"
normalize = dict(type="batch_normalize", mean=[128.0, 128.0, 128.0], std=[40.0, 40.0, 40.0])
train_transforms = [normalize]
test_transforms = [normalize]
del normalize
model = dict(backbone=dict(type="small_convnet", in_channels=3, width=16))
stage1 = dict(
    recipe=dict(name="rehearsal", epochs=30),
    epochs=30,
    batch_size=512,
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4, foreach=True),
    numerics=dict(precision="fp32", channels_last=True),
)
classifier_recipe = dict(epochs=10, batch_size=512, lr=0.2, momentum=0.9, weight_decay=5e-4)
snapshots = dict(keep=0, dtype="float16", capture="training_forward")
method = dict(
    label="Weak Breadcrumb",
    representation=dict(type="plain"),
    classifier=dict(type="breadcrumb", variant="weak", alignment="mean"),
)
