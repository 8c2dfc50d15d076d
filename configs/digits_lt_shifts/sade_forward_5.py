_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for forward-5",
    classifier=dict(test_distribution="forward-5"),
)
