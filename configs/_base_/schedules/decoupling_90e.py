# Decoupling (Kang et al., 2020), 90 epochs: SGD .2, momentum .9 without Nesterov, weight decay 5e-4, batch
# 512, cosine to 0. The Breadcrumb paper has the same and says nothing of epochs; its released code trains
# 200. On Places-LT Decoupling's paper has 90 epochs too (its author remembers 30 or 90).
stage1 = dict(
    recipe=dict(name="Decoupling", epochs=90),
    epochs=90,
    batch_size=512,
    optimizer=dict(type="SGD", lr=0.2, momentum=0.9, weight_decay=5e-4, foreach=True),
    schedule=[dict(type="CosineAnnealingLR", T_max=90, by_epoch=True)],
    numerics=dict(precision="bf16", channels_last=True),
)
classifier_recipe = dict(epochs=10, batch_size=512, lr=0.2, momentum=0.9, weight_decay=5e-4)
# No epoch is kept on disk: a ResNet-10 on ImageNet-LT would take 10.7 GB, a ResNet-50 on iNaturalist 2018
# 358 GB. Strong classifiers are trained alongside stage 1: name them in one call with what shares it, or
# set snapshots.keep=all.
snapshots = dict(keep=0, dtype="float16", capture="training_forward")
runtime = dict(workers=12)
