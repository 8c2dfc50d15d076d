_base_ = "../cifar100_lt/sade_r32.py"
method = dict(
    label="SADE, aggregated for forward-2",
    classifier=dict(type="sade_aggregated", test_distribution="forward-2"),
)
