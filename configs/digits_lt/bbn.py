_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
# BBN shares all but the last block and keeps the channels.
model = dict(backbone=dict(experts=2, own_blocks=1, channel_ratio=1.0))
method = dict(
    label="BBN",
    representation=dict(type="bbn"),
    classifier=dict(type="kept"),
)
