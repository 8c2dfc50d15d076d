_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
normalize = dict(type="batch_normalize", mean=[77.8], std=[95.9])
crop = dict(type="batch_random_crop", padding=1)
jitter = dict(type="batch_color_jitter", brightness=0.4, contrast=0.4, probability=0.8)
train_transforms = [dict(type="batch_views", views=[[crop, normalize], [crop, jitter, normalize]])]
del normalize, crop, jitter
method = dict(
    label="PaCo",
    # A queue of two thirds of an epoch, and a key encoder that follows within the 720 steps of the schedule.
    # alpha and temperature: searched on validation, three seeds: leaderboards/searches/digits_lt/paco.json.
    representation=dict(type="paco", queue=256, momentum=0.99, alpha=0.005, temperature=0.1),
    classifier=dict(type="kept"),
)
