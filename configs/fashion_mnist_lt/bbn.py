_base_ = [
    "../_base_/datasets/fashion_mnist_lt.py",
    "../_base_/models/cifar_resnet8_gray_experts.py",
    "../_base_/schedules/fashion_30e.py",
]
# BBN shares all but the last block and keeps the channels.
model = dict(backbone=dict(experts=2, own_blocks=1, channel_ratio=1.0))
# Steps at 60% and 80% of the epochs, as released for CIFAR-100-LT; batches of 128 pairs.
stage1 = dict(
    recipe=dict(name="BBN"),
    schedule=[dict(type="MultiStepLR", milestones=[18, 24], gamma=0.01, by_epoch=True)],
)
method = dict(
    label="BBN",
    representation=dict(type="bbn"),
    classifier=dict(type="kept"),
)
