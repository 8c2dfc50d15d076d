# Decoupling's long run on iNaturalist 2018: 200 epochs, weight decay 1e-4 in both stages, cRT for 30 epochs.
# (The Breadcrumb paper states 5e-4 for all datasets; what it compares with on this one is trained with 1e-4.)
_base_ = ["decoupling_90e.py"]
stage1 = dict(
    recipe=dict(name="Decoupling", epochs=200),
    epochs=200,
    optimizer=dict(weight_decay=1e-4),
    schedule=[dict(type="CosineAnnealingLR", T_max=200, by_epoch=True)],
)
classifier_recipe = dict(epochs=30, weight_decay=1e-4)
