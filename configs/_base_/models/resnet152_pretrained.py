# ResNet-152 pretrained on ImageNet: torchvision's weights (the papers' are a conversion from Caffe). A path
# or a file:// address does as well: model.backbone.init_cfg.checkpoint=path/to/resnet152-394f9c45.pth
# The trained part: frozen_stages=3 trains the last stage (layer4) and the classifier, as Decoupling does;
# 4 trains the classifier alone, -1 everything.
model = dict(
    backbone=dict(
        type="mmpretrain.ResNet",
        depth=152,
        frozen_stages=3,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.pytorch.org/models/resnet152-394f9c45.pth",
        ),
    ),
    feature_dim=2048,
)
