# The student of LFME (released code): 90 epochs, SGD .1, divided by 10 at 50 and 80, batch 256. The experts'
# recipe follows from it: 120 epochs, cosine, batches of 128, 64 and 32.
_base_ = ["decoupling_90e.py"]
stage1 = dict(
    recipe=dict(name="LFME", epochs=90),
    batch_size=256,
    optimizer=dict(lr=0.1),
    schedule=[dict(type="MultiStepLR", milestones=[50, 80], gamma=0.1, by_epoch=True)],
)
# Class-aware batches do not show every image once; a pass for snapshots that nothing needs is left out.
snapshots = dict(capture="none")
