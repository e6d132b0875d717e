// Where the regions of a new cluster begin and end, before any data says where it should be.
//
// Nothing is known of the keys yet, so the boundaries are quantiles of a guess: most keys begin with
// digits or lower-case letters, some with capitals, any byte may occur. Each region gets an equal
// share of that guess over the keys' first two bytes. Splits by size and load take over from there.

package import UkehiBase

/// The initial split keys of a cluster.
package enum StaticRanges {
    /// How likely a byte is taken to be at the start of a key, relative to the others.
    private static func weight(_ byte: UInt8) -> UInt64 {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"): 100
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): 10
        default: 2
        }
    }

    /// The most regions that two-byte boundaries can tell apart well.
    package static let maxCount = 4096

    /// The `count - 1` keys between `count` ranges, ascending, each one or two bytes.
    package static func boundaries(count: Int) -> [Bytes] {
        invariant(count >= 1 && count <= maxCount, "\(count) initial regions")
        guard count > 1 else { return [] }
        let weights = (0...255).map { weight(UInt8($0)) }
        let sum = weights.reduce(0, +)
        let total = sum * sum
        var boundaries: [Bytes] = []
        boundaries.reserveCapacity(count - 1)
        var passed: UInt64 = 0
        for first in 0...255 {
            for second in 0...255 {
                let next = UInt64(boundaries.count + 1)
                if next < count, passed * UInt64(count) >= total * next {
                    boundaries.append(
                        second == 0
                            ? Bytes([UInt8(first)]) : Bytes([UInt8(first), UInt8(second)]))
                }
                passed += weights[first] * weights[second]
            }
        }
        invariant(boundaries.count == count - 1, "\(boundaries.count) boundaries of \(count - 1)")
        return boundaries
    }

    /// The ranges between the boundaries; together they hold each key exactly once.
    package static func ranges(count: Int) -> [KeyRange] {
        let inner = boundaries(count: count)
        return (0..<count).map { position in
            KeyRange(
                lower: position == 0 ? Bytes() : inner[position - 1],
                upper: position == count - 1 ? Bytes() : inner[position])
        }
    }
}
