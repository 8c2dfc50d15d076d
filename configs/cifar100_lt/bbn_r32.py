_base_ = [
    "../_base_/datasets/cifar100_lt.py",
    "../_base_/models/cifar_resnet32_experts.py",
    "../_base_/schedules/cifar_200e.py",
]
# BBN shares all but the last block and keeps the channels.
model = dict(backbone=dict(experts=2, own_blocks=1, channel_ratio=1.0))
# The released CIFAR-100-LT configuration: Nesterov momentum, warm-up (from a third, one step on in the first
# epoch), divided by 100 from the 120th and again from the 160th epoch on; batches of 128 pairs.
stage1 = dict(
    recipe=dict(name="BBN", epochs=200),
    optimizer=dict(nesterov=True),
    schedule=[
        dict(type="LinearLR", start_factor=7 / 15, by_epoch=True, begin=0, end=5),
        dict(type="MultiStepLR", milestones=[119, 159], gamma=0.01, by_epoch=True),
    ],
)
method = dict(
    label="BBN",
    representation=dict(type="bbn"),
    classifier=dict(type="kept"),
)
