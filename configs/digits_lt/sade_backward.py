_base_ = [
    "../_base_/datasets/digits_lt.py",
    "../_base_/models/digits_convnet_experts.py",
    "../_base_/schedules/digits_60e.py",
]
method = dict(
    label="SADE, aggregated for backward-50",
    representation=dict(type="sade", tau=2.0),  # that of the SADE row
    # The test split gives few unlabelled images: smaller batches than the released 128.
    classifier=dict(type="sade_aggregated", test_distribution="backward-50", batch_size=16),
)
