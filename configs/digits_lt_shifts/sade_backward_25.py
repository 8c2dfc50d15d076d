_base_ = "../digits_lt/sade_backward.py"
method = dict(
    label="SADE, aggregated for backward-25",
    classifier=dict(test_distribution="backward-25"),
)
