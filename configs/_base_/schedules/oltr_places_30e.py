# Stage 1 of OLTR on Places-LT (released code): 30 epochs of every layer of the pretrained ResNet-152 at 1e-3,
# divided by 10 every 10, batch 128. There the classifier has a rate of .1; here one rate is for all.
_base_ = ["decoupling_90e.py"]
stage1 = dict(
    recipe=dict(name="OLTR", epochs=30),
    epochs=30,
    batch_size=128,
    optimizer=dict(lr=1e-3),
    schedule=[dict(type="StepLR", step_size=10, gamma=0.1, by_epoch=True)],
)
