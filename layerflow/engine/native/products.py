"""Matrix products: small ones as loops over tiles of registers, large ones by the BLAS that NumPy ships."""

from typing import Any

from layerflow.engine.native.kernels import Product


def blas_call(product: Product, a: str, b: str, c: str, library: Any) -> str:
    """The call of `cblas_sgemm` or `cblas_dgemm`; the matrices lie row by row (order 101)."""
    kind = "float" if product.dtype.itemsize == 4 else "double"
    pointer = "%gemm_single" if product.dtype.itemsize == 4 else "%gemm_double"
    size = f"i{library.blas.integer_bits}"

    def layout(matrix: Any) -> tuple[int, int]:
        return (111, matrix.row) if matrix.column == 1 else (112, matrix.column)

    (order_a, lead_a), (order_b, lead_b) = layout(product.a), layout(product.b)
    widths = product.inner if order_a == 111 else product.rows, product.columns if order_b == 111 else product.inner
    lead_a, lead_b = max(lead_a, widths[0]), max(lead_b, widths[1])
    sizes = f"{size} {product.rows}, {size} {product.columns}, {size} {product.inner}"
    return (
        f"call void {pointer}(i32 101, i32 {order_a}, i32 {order_b}, {sizes}, {kind} 1.0, ptr {a}, {size} {lead_a}, "
        f"ptr {b}, {size} {lead_b}, {kind} {1.0 if product.adds else 0.0}, ptr {c}, {size} {product.c.row})"
    )


def small_product(declared: dict[str, str], product: Product, a: str, b: str, c: str, lanes: int) -> str:
    """The call of a function for products of just these sizes and strides, which is added to `declared`."""
    lanes = lanes if product.dtype.itemsize == 4 else max(lanes // 2, 1)
    sizes = product.rows, product.columns, product.inner
    key = (*sizes, product.a.row, product.a.column, product.b.row, product.c.row, product.adds, product.dtype.itemsize)
    name = "product_" + "_".join(map(str, map(int, key)))
    if name not in declared:
        declared[name] = _Tiles(product, lanes).function(declared, name)
    return f"call void @{name}(ptr {a}, ptr {b}, ptr {c})"


def _column_tiles(columns: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first column, columns, width of a tile): as wide as two vectors, then narrower ones for the rest."""
    found, at = [], 0
    for width in (2 * lanes, lanes, lanes // 2, lanes // 4, 1):
        if width >= 1 and columns - at >= width:
            count = (columns - at) // width
            found.append((at, count * width, width))
            at += count * width
    return found


def _row_tiles(rows: int, width: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first row, rows, height of a tile): as many rows as registers hold."""
    most = 6 if width == 2 * lanes else 8
    if rows <= most:
        return [(0, rows, rows)]
    height = max(range(4, most + 1), key=lambda each: (rows % each == 0, each))
    full = rows // height * height
    return [(0, full, height)] + ([(full, rows - full, rows - full)] if rows > full else [])


class _Tiles:
    """Prints the function: for each tile of C, its rows and vectors stay in registers over the whole inner loop."""

    def __init__(self, product: Product, lanes: int) -> None:
        self.product, self.lanes = product, lanes
        self.kind = "float" if product.dtype.itemsize == 4 else "double"
        self.lines: list[str] = []
        self.block, self.number = "entry", 0

    def function(self, declared: dict[str, str], name: str) -> str:
        product = self.product
        for first, columns, width in _column_tiles(product.columns, self.lanes):
            for top, rows, height in _row_tiles(product.rows, width, self.lanes):
                self._tile(declared, first, columns, width, top, rows, height)
        head = f"define internal void @{name}(ptr noalias readonly %A, ptr noalias readonly %B, ptr noalias %C)"
        return "\n".join([f"{head} noinline nounwind {{", "entry:", *self.lines, "  ret void", "}"])

    def _tile(
        self, declared: dict[str, str], first: int, columns: int, width: int, top: int, rows: int, height: int
    ) -> None:
        p, kind, align = self.product, self.kind, self.product.dtype.itemsize
        parts = 2 if width == 2 * self.lanes else 1
        wide = width // parts
        vector = f"<{wide} x {kind}>"
        fma = f"llvm.fmuladd.v{wide}f{8 * align}"
        declared[fma] = f"declare {vector} @{fma}({vector}, {vector}, {vector})"
        self.number += 1
        t = f"_{self.number}"  # ends every name of this tile
        cells = [(row, part) for row in range(height) for part in range(parts)]
        say = self.lines.append
        say(f"  br label %columns{t}")
        say(f"columns{t}:")
        say(f"  %j{t} = phi i64 [{first}, %{self.block}], [%jn{t}, %nextcolumns{t}]")
        say(f"  br label %rows{t}")
        say(f"rows{t}:")
        say(f"  %i{t} = phi i64 [{top}, %columns{t}], [%in{t}, %nextrows{t}]")
        for row in range(height):
            say(f"  %r{row}{t} = add nuw nsw i64 %i{t}, {row}")
            say(f"  %ra{row}{t} = mul nsw i64 %r{row}{t}, {p.a.row}")
            say(f"  %pa{row}{t} = getelementptr inbounds {kind}, ptr %A, i64 %ra{row}{t}")
            say(f"  %rc{row}{t} = mul nsw i64 %r{row}{t}, {p.c.row}")
            say(f"  %cj{row}{t} = add nsw i64 %rc{row}{t}, %j{t}")
            for part in range(parts):
                say(f"  %cp{row}_{part}{t} = add nsw i64 %cj{row}{t}, {part * wide}")
                say(f"  %pc{row}_{part}{t} = getelementptr inbounds {kind}, ptr %C, i64 %cp{row}_{part}{t}")
                if p.adds:
                    say(f"  %s{row}_{part}{t} = load {vector}, ptr %pc{row}_{part}{t}, align {align}")
        say(f"  br label %inner{t}")
        say(f"inner{t}:")
        say(f"  %k{t} = phi i64 [0, %rows{t}], [%kn{t}, %inner{t}]")
        for row, part in cells:
            start = f"%s{row}_{part}{t}" if p.adds else "zeroinitializer"
            say(f"  %c{row}_{part}{t} = phi {vector} [{start}, %rows{t}], [%d{row}_{part}{t}, %inner{t}]")
        say(f"  %rb{t} = mul nsw i64 %k{t}, {p.b.row}")
        say(f"  %bj{t} = add nsw i64 %rb{t}, %j{t}")
        for part in range(parts):
            say(f"  %bp{part}{t} = add nsw i64 %bj{t}, {part * wide}")
            say(f"  %pb{part}{t} = getelementptr inbounds {kind}, ptr %B, i64 %bp{part}{t}")
            say(f"  %b{part}{t} = load {vector}, ptr %pb{part}{t}, align {align}")
        say(f"  %ka{t} = mul nsw i64 %k{t}, {p.a.column}")
        for row in range(height):
            say(f"  %qa{row}{t} = getelementptr inbounds {kind}, ptr %pa{row}{t}, i64 %ka{t}")
            say(f"  %a{row}{t} = load {kind}, ptr %qa{row}{t}, align {align}")
            say(f"  %v{row}{t} = insertelement {vector} poison, {kind} %a{row}{t}, i32 0")
            zeros = ", ".join(["i32 0"] * wide)
            say(f"  %w{row}{t} = shufflevector {vector} %v{row}{t}, {vector} poison, <{wide} x i32> <{zeros}>")
            for part in range(parts):
                operands = f"{vector} %w{row}{t}, {vector} %b{part}{t}, {vector} %c{row}_{part}{t}"
                say(f"  %d{row}_{part}{t} = call {vector} @{fma}({operands})")
        say(f"  %kn{t} = add nuw nsw i64 %k{t}, 1")
        say(f"  %km{t} = icmp ult i64 %kn{t}, {p.inner}")
        say(f"  br i1 %km{t}, label %inner{t}, label %nextrows{t}")
        say(f"nextrows{t}:")
        for row, part in cells:
            say(f"  store {vector} %d{row}_{part}{t}, ptr %pc{row}_{part}{t}, align {align}")
        say(f"  %in{t} = add nuw nsw i64 %i{t}, {height}")
        say(f"  %im{t} = icmp ult i64 %in{t}, {top + rows}")
        say(f"  br i1 %im{t}, label %rows{t}, label %nextcolumns{t}")
        say(f"nextcolumns{t}:")
        say(f"  %jn{t} = add nuw nsw i64 %j{t}, {width}")
        say(f"  %jm{t} = icmp ult i64 %jn{t}, {first + columns}")
        say(f"  br i1 %jm{t}, label %columns{t}, label %done{t}")
        say(f"done{t}:")
        self.block = f"done{t}"


SMALL_BY_LANES = {8: 300_000, 4: 60_000}
"""Up to how many multiplications a product is a loop of our own, by floats in a vector; measured with 8."""
