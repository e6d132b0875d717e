// Time and chance, from outside the core.

/// A point on a monotonic clock that goes on during suspend (CLOCK_BOOTTIME; RULES 54), in
/// nanoseconds from an arbitrary start.
public struct MonotonicTime: Hashable, Comparable, Sendable {
    public var nanoseconds: UInt64
    @inlinable public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
    /// `b` nanoseconds later; saturating.
    @inlinable public static func + (a: Self, b: UInt64) -> Self {
        let (sum, overflow) = a.nanoseconds.addingReportingOverflow(b)
        return Self(nanoseconds: overflow ? .max : sum)
    }
    /// Nanoseconds from `b` to `a`, 0 if `a` is earlier.
    @inlinable public static func - (a: Self, b: Self) -> UInt64 {
        a.nanoseconds > b.nanoseconds ? a.nanoseconds - b.nanoseconds : 0
    }
}

/// The two clocks a node may read.
public protocol NodeClock: AnyObject, Sendable {
    /// Monotonic, counting suspend.
    func now() -> MonotonicTime
    /// Wall clock in nanoseconds since 1970; only for logged time, which never goes back by itself.
    func wallNanoseconds() -> UInt64
}

/// Where a node gets its randomness: the system's in production, a seeded one in tests.
public protocol RandomSource: AnyObject, Sendable {
    func next() -> UInt64
}
