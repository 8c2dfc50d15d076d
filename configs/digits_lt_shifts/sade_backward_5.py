_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for backward-5",
    classifier=dict(test_distribution="backward-5"),
)
