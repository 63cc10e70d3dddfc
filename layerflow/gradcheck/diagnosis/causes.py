"""The causes that the diagnosis can name: what each of them means, and where to look."""

from dataclasses import dataclass

CAUSES: dict[str, tuple[str, str]] = {
    # Factors and signs
    "sign": ("the sign is wrong", "the factors in {gate}.backward"),
    "sign lost": ("the sign of the local derivative is lost where it is negative", "signs in {gate}.backward"),
    "constant factor": ("a constant factor is missing, or there is one too many", "the factors in {gate}.backward"),
    "factor array missing": ("a factor is missing", "the product in {gate}.backward"),
    "factor array too often": ("there is a factor too many", "the product in {gate}.backward"),
    "factor array inverted": (
        "backward multiplies where it should divide, or the reverse",
        "the product in {gate}.backward",
    ),
    "term added": (
        "this term is not part of the gradient of forward",
        "what is added to the gradient in {gate}.backward",
    ),
    "own value added": (
        "this gate adds the gradient of a regularizer of {tensor}, whose loss is not part of forward",
        "what is added to the gradient in {gate}.backward",
    ),
    "not finite": (
        "a division by zero, a logarithm of zero or an overflow in backward; forward is finite here",
        "divisions, logarithms and exponentials in {gate}.backward",
    ),
    "always zero": ("no gradient flows back to this input", "what {gate}.backward returns for {tensor}"),
    # The upstream gradient
    "upstream gradient ignored": ("the upstream gradient is not multiplied in", "where {gate}.backward uses grad"),
    "upstream gradient added": ("the chain rule multiplies the two", "where {gate}.backward uses grad"),
    "not linear in the upstream gradient": (
        "backward clips or transforms it; backward must be linear in grad",
        "where {gate}.backward uses grad",
    ),
    "local derivative missing": ("the local derivative is not multiplied in", "where {gate}.backward uses grad"),
    # Masks
    "mask inverted": ("the mask is inverted", "the mask (the comparison) in {gate}"),
    "mask missing": ("the gradient also passes where it should stop", "the mask (the comparison) in {gate}"),
    "mask too narrow": ("the mask blocks too much", "the mask (the comparison) in {gate}"),
    "mask too wide": ("the mask lets too much pass", "the mask (the comparison) in {gate}"),
    "mask of the upstream gradient": (
        "the mask must be computed from what forward saw, not from grad",
        "the comparison in {gate}.backward",
    ),
    "minimum for maximum": (
        "the gradient belongs to the element that forward selected",
        "argmin, argmax and comparisons in {gate}.backward",
    ),
    "label term missing": (
        "the term of the correct class is missing or wrong",
        "the line for the labels in {gate}.backward",
    ),
    # The wrong place
    "gradient of another": ("two gradients are exchanged", "the order in which {gate}.backward returns them"),
    "transposed": ("the gradient is transposed", "the order of the factors and .T in {gate}.backward"),
    "flipped": ("an axis is reversed", "the order of axes and indices in {gate}.backward"),
    "shifted": (
        "an index is off, or padding is removed at the wrong end",
        "slices, padding and indices in {gate}.backward",
    ),
    "blocks swapped": ("the parts of the tensor are exchanged", "the order of the parts in {gate}.backward"),
    "misplaced": (
        "backward puts the elements back in another order than forward took them",
        "indices, axes and order= in {gate}.backward",
    ),
    "part not reached": (
        "backward leaves out a part of the tensor",
        "slices, ranges and comparisons in {gate}.backward",
    ),
    "kernel not flipped": ("it must be reversed here, or must not be", "where {gate}.backward uses it"),
    "W for W.T": ("the matrix is transposed", "where {gate}.backward uses it"),
    "transposed Jacobian": (
        "the Jacobian J is transposed: what runs forwards in forward must run backwards in backward",
        "the order and direction of sums and products in {gate}.backward",
    ),
    # Sums over outputs
    "sum over the wrong axis": ("the sum is over the wrong axis", "axis= and keepdims= in {gate}.backward"),
    "batch sum missing": ("the sum over the batch is missing", "sums over axis 0 in {gate}.backward"),
    "sum over positions missing": (
        "the sum over the positions (or steps) along it is missing; use += in the loop",
        "loops and sums in {gate}.backward",
    ),
    "some steps missing": (
        "every step contributes to this gradient, and the contributions are added",
        "the loop over steps in {gate}.backward",
    ),
    "overwritten instead of added": (
        "contributions to the same element overwrite each other instead of being added",
        "assignments by index in {gate}.backward: use += , and np.add.at for repeated indices",
    ),
    "mean for sum": ("the contributions are averaged, not added", "sums and means in {gate}.backward"),
    "diagonal only": (
        "the cross terms are missing: an output depends on inputs at other indices, too",
        "the sum over outputs in {gate}.backward",
    ),
    "stride forgotten": ("forward moves by the stride, backward does not", "indices and slices in {gate}.backward"),
    "dilation forgotten": (
        "forward spaces the elements of a window by the dilation, backward does not",
        "indices and slices in {gate}.backward",
    ),
    # The wrong point
    "stale values": (
        "backward uses values of an earlier forward",
        "what {gate}.forward keeps, and under which condition",
    ),
    "argument ignored": ("backward does not use the value that forward has", "{gate}.backward"),
    "evaluated at -x": ("a sign inside the formula is wrong", "the formula in {gate}.backward"),
    "evaluated at the input": (
        "a formula in terms of y was given x",
        "what {gate}.forward saves, and the formula in {gate}.backward",
    ),
    # Operations of forward
    "path missing": ("that path from {tensor} to the output is left out", "the sum of all paths in {gate}.backward"),
    "carry between steps missing": ("what one step passes on to the next is part of the gradient, too", ""),
    "variance term missing": ("the variance (or mean square) depends on {tensor}, too; its term is missing", ""),
    "mean term missing": ("the mean depends on {tensor}, too; its term is missing", ""),
    "normaliser held constant": ("the sum depends on {tensor}, too; its term is missing", ""),
    "statistics terms missing": (
        "the mean and the variance depend on {tensor}, too; their terms are missing",
        "the derivation of d{tensor} in {gate}.backward",
    ),
    "eps in the wrong place": (
        "forward has eps inside the root, so backward must have it there",
        "the derivation of d{tensor} in {gate}.backward",
    ),
    "running statistics": (
        "in training mode forward uses the statistics of the batch, so backward must, too",
        "the derivation of d{tensor} in {gate}.backward",
    ),
    "sign on a path": ("the derivative along that path has the wrong sign", ""),
    "factor on a path": ("the derivative along that path has a wrong factor", ""),
    "factor sqrt(d)": ("the derivative along that path has a wrong factor", "the factors in {gate}.backward"),
    "wrong local derivative": ("that is not the derivative of this function", "the formula in {gate}.backward"),
    "evaluated at the output": ("a formula in terms of u was given y", "the formula in {gate}.backward"),
    "local derivative twice": ("the local derivative is multiplied in twice", "the formula in {gate}.backward"),
}


@dataclass(frozen=True)
class Finding:
    """A hypothesis that fits.

    Attributes:
        cause: a few words, the same for the same mistake.
        formula: what the analytic gradient equals, as in "analytic = 2 x numeric".
        meaning, place: what that means and where to look, if it is more special than what `CAUSES` says; "{gate}" and
            "{tensor}" are filled in.
    """

    cause: str
    formula: str
    meaning: str = ""
    place: str = ""

    def stated(self, gate: str, tensor: str) -> tuple[str, str]:
        """The sentence that states it, and where to look."""
        meaning, place = CAUSES.get(self.cause, ("", "the factors in {gate}.backward"))
        texts = (f"{{gate}}.{{tensor}}: {self.formula}; {self.meaning or meaning}", self.place or place)
        sentence, place = (text.replace("{gate}", gate).replace("{tensor}", tensor) for text in texts)
        return sentence, place
