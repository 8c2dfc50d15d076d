# scikit-learn's 8x8 digits with an exponential training profile; balanced test and validation parts.
dataset = dict(type="digits_lt")
convention = "strict"
normalize = dict(type="batch_normalize", mean=[77.8], std=[95.9])
train_transforms = [dict(type="batch_random_crop", padding=1), normalize]
test_transforms = [normalize]
del normalize
