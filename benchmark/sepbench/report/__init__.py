"""A run's figures and sounds: what a table cannot show.

What a method shows of its inside, for pictures alone, is `Estimate.trace`: a dict with

    masks         Tensor (source, feature, frame), 0 to 1; mask i made sources[i]
    mask_hop_s    float, seconds: frame k spans mask_start_s + [k, k + 1) * mask_hop_s
    mask_axis     str, what a feature is: "learned filter", or with its unit: "frequency, kHz"

and, where they are known,

    mask_start_s  float, seconds, 0 without it; -mask_hop_s / 2 for frames that are centred on multiples of the hop
    mask_extent   (lower, upper) edge of the axis, in its unit, such as (0, 8); features are then drawn as they stand
    mask_order    (feature,) int, the order in which features are drawn, from the bottom up
    masks_before  str, what makes up for a sum other than 1 after the masks, such as "mixture consistency"
    mask_order_by str, what that order follows, such as "centre frequency"

Features without an extent and an order are drawn by the mean of the first mask that is shown. Other keys are passed over.
"""
