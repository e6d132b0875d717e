// Zipf's law: the key of rank r, from 1, is drawn with a probability in proportion to 1 / r^s.
//
// By rejection-inversion (W. Hörmann, G. Derflinger: Rejection-inversion to generate variates from monotone
// discrete distributions, 1996): exact, without a table and without the sum of all weights; about 1.1 tries a draw.
// YCSB draws by an approximation of Gray et al. that is exact for the first two ranks only.
//
// Ranks are numbers of keys, and numbers are scattered over the key space by a hash (KeySpace.swift): which keys
// are hot has nothing to do with where they lie, as in YCSB's scrambled distribution, but without its collisions.

import Glibc

/// A Zipf distribution over `0..<count`, the most frequent number first. Immutable.
struct ZipfDistribution: Sendable {
    /// `zipfian constant` of YCSB.
    static let ycsbExponent = 0.99

    let count: UInt64
    let exponent: Double
    /// H(1.5) - 1 and H(count + 0.5): what is inverted lies between them.
    private let lowest: Double
    private let highest: Double
    /// Where the first comparison is enough.
    private let shortcut: Double

    /// - Parameter exponent: Above 0, and not 1.
    init(count: UInt64, exponent: Double) {
        precondition(count > 0 && exponent > 0 && exponent != 1)
        self.count = count
        self.exponent = exponent
        lowest = Self.integral(1.5, exponent) - 1
        highest = Self.integral(Double(count) + 0.5, exponent)
        let two = Self.integral(2.5, exponent) - Self.weight(2, exponent)
        shortcut = 2 - Self.inverse(two, exponent)
    }

    /// x^-s.
    private static func weight(_ x: Double, _ exponent: Double) -> Double {
        exp(-exponent * log(x))
    }

    /// The integral of the weight, up to a constant: (x^(1-s) - 1) / (1 - s).
    private static func integral(_ x: Double, _ exponent: Double) -> Double {
        expm1((1 - exponent) * log(x)) / (1 - exponent)
    }

    /// x of ``integral(_:_:)``.
    private static func inverse(_ value: Double, _ exponent: Double) -> Double {
        // Rounding may take it below what the integral can be.
        let scaled = max(value * (1 - exponent), -1)
        return exp(log1p(scaled) / (1 - exponent))
    }

    func draw(_ random: inout BenchRandom) -> UInt64 {
        while true {
            let point = highest + random.nextUnit() * (lowest - highest)
            let x = Self.inverse(point, exponent)
            let rank = min(max((x + 0.5).rounded(.down), 1), Double(count))
            if rank - x <= shortcut
                || point >= Self.integral(rank + 0.5, exponent) - Self.weight(rank, exponent)
            {
                return UInt64(rank) - 1
            }
        }
    }
}
