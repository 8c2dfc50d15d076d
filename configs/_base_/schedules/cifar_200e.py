# The plain recipe of CIFAR-LT (Cao et al., LDAM-DRW, 2019): SGD 0.1, momentum 0.9, weight decay 2e-4,
# batch 128, 200 epochs, linear warm-up over 5, divided by 100 at 160 and again at 180. A linear head starts
# as torch's own; in their code as the convolutions do.
# bfloat16 wants a processor that has it (AVX-512 BF16, AMX, a GPU). Elsewhere it is emulated, many times
# slower: set stage1.numerics.precision=fp32 there.
stage1 = dict(
    recipe=dict(name="LDAM-DRW", epochs=200),
    epochs=200,
    batch_size=128,
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=2e-4, foreach=True),
    schedule=[
        dict(type="LinearLR", start_factor=0.2, by_epoch=True, begin=0, end=5),
        dict(type="MultiStepLR", milestones=[160, 180], gamma=0.01, by_epoch=True),
    ],
    numerics=dict(precision="bf16", channels_last=True),
)
# Decoupling's lr 0.2 is for batch 512; batch and rate go together.
classifier_recipe = dict(epochs=10, batch_size=128, lr=0.05, momentum=0.9, weight_decay=5e-4)
snapshots = dict(keep="all", dtype="float16", capture="training_forward")
