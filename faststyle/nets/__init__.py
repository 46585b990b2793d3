"""Networks: the TransformerNet that paints and the frozen LossNetwork that judges."""
