"""Head and cross-entropy of supervised tokens, without the logits of all of them at once."""

from sightline.model.head_loss.loss import HeadLoss, head_loss, refuse_unusable
from sightline.model.head_loss.tied import tied_embedding

__all__ = ["HeadLoss", "head_loss", "refuse_unusable", "tied_embedding"]
