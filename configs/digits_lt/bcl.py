_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet.py",
    "../_base_/schedules/digits_60e.py",
]
normalize = dict(type="batch_normalize", mean=[77.8], std=[95.9])
crop = dict(type="batch_random_crop", padding=1)
jitter = dict(type="batch_color_jitter", brightness=0.4, contrast=0.4, probability=0.8)
contrasted = [crop, jitter, normalize]
train_transforms = [dict(type="batch_views", views=[[crop, normalize], contrasted, contrasted])]
del normalize, crop, jitter, contrasted
method = dict(
    label="BCL",
    # Hidden width and projection scaled down to the 64-d features. contrast_weight and temperature: searched
    # on validation, three seeds: leaderboards/searches/digits_lt/bcl.json.
    representation=dict(type="bcl", hidden=128, out=64, contrast_weight=0.2, temperature=0.1),
    classifier=dict(type="kept"),
)
