// Chance for the load: one small generator per lane of clients, seeded, so that two runs draw the
// same keys in the same order.

/// xorshift64*: 2 ns a draw, good enough to choose keys; not for secrets.
struct BenchRandom {
    private var state: UInt64

    init(seed: UInt64) { state = BenchRandom.mix(seed) | 1 }

    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_F491_4F6C_DD1D
    }

    /// A number in `0..<bound`, by multiplication: its bias is below `bound` / 2^64.
    mutating func next(below bound: UInt64) -> UInt64 {
        next().multipliedFullWidth(by: bound).high
    }

    /// A number from 0 on, below 1.
    mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// The finalizer of splitmix64: a permutation of 64-bit numbers that looks random.
    @inline(__always)
    static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
