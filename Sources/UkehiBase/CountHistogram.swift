// Hot path: counting is a shift and an increment; all memory is there from the start.
//
// How often which values occurred, in buckets of nearly the same relative width.
//
//   precision 3 | 0 ..< 16     | 16 ..< 32 | 32 ..< 64 | ...     one octave each, after the first two
//   slots       | 16 of 1      | 8 of 2    | 8 of 4    | ...     1/8 wide at most
//
// With precision 10 these are the buckets of an HDR histogram with three significant digits, whose
// library's own recording goes through generic code of another module and costs more than what is
// measured.

/// Counts of values. Used under its owner's lock.
///
/// Safety: owned by one value or object, which guards it; others get copies.
package final class CountHistogram: @unchecked Sendable {
    @usableFromInline let counts: UnsafeMutablePointer<UInt64>
    @usableFromInline let precision: Int
    @usableFromInline let limit: UInt64
    package let slots: Int
    @usableFromInline package var total: UInt64 = 0
    @usableFromInline package var maximum: UInt64 = 0

    /// - Parameters:
    ///   - precision: Of 2^precision buckets is each octave made.
    ///   - limitBits: Values at and past 2^limitBits count as the largest below; ``maximum`` is exact.
    package init(precision: Int, limitBits: Int) {
        self.precision = precision
        limit = 1 << UInt64(limitBits)
        slots = (limitBits - precision + 1) << precision
        counts = .allocate(capacity: slots)
        counts.initialize(repeating: 0, count: slots)
    }

    deinit { counts.deallocate() }

    /// Another one with the same counts.
    package func copy() -> CountHistogram {
        let made = CountHistogram(
            precision: precision, limitBits: limit.trailingZeroBitCount)
        made.add(self)
        return made
    }

    @inlinable @inline(__always)
    func slot(of value: UInt64) -> Int {
        let value = min(value, limit &- 1)
        // The octave's number, 0 for both of the first two; the highest bits give the place in it.
        let octave = max(63 &- precision &- (value | 1).leadingZeroBitCount, 0)
        return (octave &<< precision) &+ Int(truncatingIfNeeded: value &>> UInt64(octave))
    }

    /// The largest value that shares `slot`.
    package func upperEdge(of slot: Int) -> UInt64 {
        let octave = max(slot >> precision - 1, 0)
        return (UInt64(slot - octave << precision) + 1) << UInt64(octave) - 1
    }

    package func count(in slot: Int) -> UInt64 { counts[slot] }

    /// Counts one value.
    @inlinable @inline(__always)
    package func record(_ value: UInt64) {
        counts[slot(of: value)] &+= 1
        total &+= 1
        if value > maximum { maximum = value }
    }

    /// Forgets everything.
    package func reset() {
        counts.update(repeating: 0, count: slots)
        total = 0
        maximum = 0
    }

    /// Adds what `other`, of the same kind, has counted.
    package func add(_ other: CountHistogram) {
        invariant(other.slots == slots, "histograms of two kinds are added")
        for slot in 0..<slots { counts[slot] &+= other.counts[slot] }
        total &+= other.total
        maximum = max(maximum, other.maximum)
    }

    /// Takes back what was added before: leaves what came since `earlier` was copied. The maximum
    /// stays as it is.
    package func subtract(_ earlier: CountHistogram) {
        invariant(earlier.slots == slots, "histograms of two kinds are subtracted")
        for slot in 0..<slots { counts[slot] &-= earlier.counts[slot] }
        total &-= earlier.total
    }

    /// The largest value of the bucket that holds the one below which `fraction` of them lie; 0
    /// without any.
    package func quantile(_ fraction: Double) -> UInt64 {
        var left = UInt64((Double(total) * fraction).rounded(.up))
        guard total > 0 else { return 0 }
        left = min(max(left, 1), total)
        for slot in 0..<slots {
            if left <= counts[slot] { return min(upperEdge(of: slot), maximum) }
            left -= counts[slot]
        }
        return maximum
    }
}
