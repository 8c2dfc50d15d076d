_base_ = ["../cifar100_lt/fslwf_r32.py"]
dataset = dict(type="cifar10_lt")
# No class is few-shot: the two medium-shot ones are the novel ones.
method = dict(classifier=dict(novel_groups=("medium",)))
