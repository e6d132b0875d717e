// The half-open range of keys a region owns.

/// Keys in `lower..<upper`, compared as unsigned bytes; an empty `upper` means no upper bound.
public struct KeyRange: Hashable, Sendable, CustomStringConvertible {
    public var lower: Bytes
    public var upper: Bytes

    /// Traps when `upper` is neither empty nor above `lower`: callers check input first.
    public init(lower: Bytes, upper: Bytes) {
        invariant(upper.isEmpty || lower < upper, "a key range ends after it starts")
        self.lower = lower
        self.upper = upper
    }

    /// Every key.
    public static let all = KeyRange(lower: Bytes(), upper: Bytes())

    /// Whether `key` lies in the range.
    public func contains(_ key: Bytes) -> Bool {
        lower <= key && (upper.isEmpty || key < upper)
    }

    /// Whether both ranges share a key.
    public func overlaps(_ other: KeyRange) -> Bool {
        (upper.isEmpty || other.lower < upper) && (other.upper.isEmpty || lower < other.upper)
    }

    /// Whether every key of `other` lies in the range.
    public func contains(_ other: KeyRange) -> Bool {
        lower <= other.lower
            && (upper.isEmpty || (!other.upper.isEmpty && other.upper <= upper))
    }

    /// What is left of the range without `others`, ascending.
    public func subtracting(_ others: [KeyRange]) -> [KeyRange] {
        var left: [KeyRange] = []
        var start = lower
        for other in others.filter(overlaps).sorted(by: { $0.lower < $1.lower }) {
            if start < other.lower { left.append(KeyRange(lower: start, upper: other.lower)) }
            if other.upper.isEmpty { return left }
            start = max(start, other.upper)
        }
        if upper.isEmpty || start < upper { left.append(KeyRange(lower: start, upper: upper)) }
        return left
    }

    /// Boundary lengths only: keys never appear in logs.
    public var description: String {
        "[\(lower.count) B key ..< \(upper.isEmpty ? "end" : "\(upper.count) B key"))"
    }
}
