// The identifiers and positions everything else is named by. Distinct types, so that a node is
// never taken for a peer, nor a term for an index.

/// One process with its data directory, holding many peers. Assigned at bootstrap, never reused.
public struct NodeID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { "n\(rawValue)" }
}

/// A key range replicated by one Raft group. From one monotonic allocator, never reused.
public struct RegionID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { "r\(rawValue)" }

    /// The system region: cluster id, node registry, id allocator. Owns no user keys.
    public static let system = RegionID(1)
}

/// One region's replica on one node: the id that Raft votes with. Zero means none.
///
/// A node that lost its disk comes back under new peer ids (RULES 16), so a vote is never given
/// twice under one name.
public struct PeerID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { "p\(rawValue)" }

    /// No peer: nobody was voted for, no leader is known.
    public static let none = PeerID(0)
}

/// A Raft term (Raft §5.1). Zero is before the first election.
public struct Term: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { "\(rawValue)" }

    /// Before the first election.
    public static let zero = Term(0)
}

/// A position in one region's log. Index 1 is the first entry, 0 is before the log.
public struct LogIndex: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    public var description: String { "\(rawValue)" }

    /// Before the log.
    public static let zero = LogIndex(0)

    @inlinable public static func + (a: Self, b: UInt64) -> Self { Self(a.rawValue + b) }
    @inlinable public static func - (a: Self, b: UInt64) -> Self { Self(a.rawValue - b) }
    /// How many entries lie in `b..<a`; traps when `b` is past `a`.
    @inlinable public static func - (a: Self, b: Self) -> UInt64 { a.rawValue - b.rawValue }
}

/// What a region's requests and messages are checked against (RULES 22, 23): equality, not order.
public struct RegionEpoch: Hashable, Sendable, CustomStringConvertible {
    /// Raised by each membership change.
    public var confVersion: UInt64
    /// Raised by each change of the range: split, merge.
    public var version: UInt64
    @inlinable public init(confVersion: UInt64, version: UInt64) {
        self.confVersion = confVersion
        self.version = version
    }
    public var description: String { "\(confVersion).\(version)" }
}

/// The cluster's random identity, fixed once at bootstrap and checked on each connection.
public struct ClusterID: Hashable, Sendable, CustomStringConvertible {
    public var high: UInt64
    public var low: UInt64
    @inlinable public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    public var description: String {
        func hex(_ value: UInt64) -> String {
            let digits = String(value, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        return hex(high) + hex(low)
    }
}

/// A random number a data directory is born with: a directory that was lost and made anew has
/// another one, however it is named (RULES 16, 71).
public struct Incarnation: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public var description: String { String(rawValue, radix: 16) }
}
