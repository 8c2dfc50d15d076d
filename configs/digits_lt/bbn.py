_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
# BBN shares all but the last block and keeps the channels.
model = dict(backbone=dict(experts=2, own_blocks=1, channel_ratio=1.0))
# Steps at 60% and 80% of the epochs, as released: they end the training while both branches are learning. The
# cosine of the other methods goes on until alpha leaves all to the re-balancing branch. Chosen on validation,
# three seeds, with the learning rate: leaderboards/searches/digits_lt/bbn.json.
stage1 = dict(
    recipe=dict(name="BBN"),
    schedule=[dict(type="MultiStepLR", milestones=[36, 48], gamma=0.01, by_epoch=True)],
)
method = dict(
    label="BBN",
    representation=dict(type="bbn"),
    classifier=dict(type="kept"),
)
