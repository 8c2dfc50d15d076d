_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for forward-50",
    classifier=dict(test_distribution="forward-50"),
)
