_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for forward-10",
    classifier=dict(test_distribution="forward-10"),
)
