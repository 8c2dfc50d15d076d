# The ResNet-10 of OLTR, Decoupling and Breadcrumb: no residual branch starts at zero in their codes.
model = dict(backbone=dict(type="resnet10", zero_init_residual=False))
