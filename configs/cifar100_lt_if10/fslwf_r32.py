_base_ = ["../cifar100_lt/fslwf_r32.py"]
dataset = dict(imbalance_factor=10)
# No class is few-shot: the medium-shot ones are the novel ones.
method = dict(classifier=dict(novel_groups=("medium",)))
