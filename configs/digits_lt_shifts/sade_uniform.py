_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for uniform",
    classifier=dict(test_distribution="uniform"),
)
