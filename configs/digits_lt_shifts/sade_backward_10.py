_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for backward-10",
    classifier=dict(test_distribution="backward-10"),
)
