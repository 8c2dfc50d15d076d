# A run at the size of a real dataset on generated images: what it takes, not how well it does.
_base_ = ["breadcrumb_weak.py"]
method = dict(label="Strong Breadcrumb", classifier=dict(variant="strong"))
