_base_ = ["../cifar100_lt/fslwf_r32.py"]
dataset = dict(type="cifar10_lt", imbalance_factor=50)
# No class is few-shot: the one that is medium-shot, of 100 images, is the novel one.
method = dict(classifier=dict(novel_groups=("medium",)))
