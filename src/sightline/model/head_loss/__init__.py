"""Head and cross-entropy of supervised tokens, without the logits of all of them at once."""

from sightline.model.head_loss.loss import HeadLoss, head_loss, refuse_unusable

__all__ = ["HeadLoss", "head_loss", "refuse_unusable"]
