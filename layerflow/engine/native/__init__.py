"""Programs as machine code: lowered to loops over planned memory, printed as LLVM's language, compiled by llvmlite."""
